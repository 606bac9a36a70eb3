from datetime import timedelta
from pathlib import Path

import pytest

from issuer.config import ConfigError, load_config
from issuer.config_sections import AuthzenSection, Config, OidcIssuerSection
from issuer.settings_of_parts import evidence_rules, publishing_of
from issuer.status_publishing import Publishing

MINIMAL = (
    '[issuer]\nurl = "https://issuer.prod.example"\n[policy]\npath = "policy"\n[keys]\nfile = "key.pem"\n'
    '[ledger]\nfile = "ledger.sqlite3"\n'
)


def write(folder: Path, text: str) -> Path:
    path = folder / "issuer.toml"
    path.write_text(text, encoding="utf-8")
    return path


def faults_of(path: Path, **environment: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load_config(path, environment)
    return refused.value.faults


def test_the_starting_configuration_is_valid_and_changes_no_default(tmp_path: Path) -> None:
    starter = Path(__file__).parents[2] / "issuer/starter.toml"
    config = load_config(write(tmp_path, starter.read_text(encoding="utf-8")), {})
    minimal = load_config(write(tmp_path, MINIMAL), {})
    assert (config.server, config.http, config.log, config.spire) == (
        minimal.server,
        minimal.http,
        minimal.log,
        minimal.spire,
    )


def test_the_starting_configuration_names_every_setting() -> None:
    text = (Path(__file__).parents[2] / "issuer/starter.toml").read_text(encoding="utf-8")
    for section, field in Config.model_fields.items():
        assert f"[{section}]" in text
        for key in field.annotation.model_fields:  # type: ignore[union-attr]
            named = (f"{key} = ", f"[{section}.{key}]", f"[[{section}.{key}]]")
            assert any(name in text for name in named), f"[{section}] {key} is not in the starting configuration"
    for key in AuthzenSection.model_fields:
        assert f"# {key} = " in text, f"[[facts.authzen]] {key} is not in the starting configuration"
    for key in OidcIssuerSection.model_fields:
        assert f"# {key} = " in text, f"[[oidc.issuers]] {key} is not in the starting configuration"


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, MINIMAL), {}).policy.path == tmp_path / "policy"


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    environment = {
        "ISSUER_SERVER_LISTEN": "127.0.0.1:9000",
        "ISSUER_SERVER_MAX_CONNECTION_AGE": "5m",
        "ISSUER_SPIRE_FEDERATED_TRUST_DOMAINS": '["partner.example"]',
        "ISSUER_HTTP_BEHIND_TLS_PROXY": "true",
        "ISSUER_UNRELATED": "ignored",
    }
    config = load_config(write(tmp_path, MINIMAL), environment)
    assert config.server.listen == "127.0.0.1:9000"
    assert config.server.max_connection_age == timedelta(minutes=5)
    assert [str(name) for name in config.spire.federated_trust_domains] == ["partner.example"]
    assert config.http.behind_tls_proxy is True


def test_a_fault_of_the_environment_names_the_variable(tmp_path: Path) -> None:
    (fault,) = faults_of(write(tmp_path, MINIMAL), ISSUER_SERVER_LISTEN="nowhere")
    assert fault.startswith("$ISSUER_SERVER_LISTEN: [server] listen: ")


def test_all_faults_are_told_at_once_with_their_lines_and_the_nearest_word(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '[issuer]\nurl = "http://issuer.prod.example"\n\n[server]\nlisen = "127.0.0.1:1"\nshutdown_grace = "soon"\n'
        '[keys]\nfile = "key.pem"\n[ledger]\nfile = "ledger.sqlite3"\n[polcy]\npath = "x"\n',
    )
    assert faults_of(path) == [
        f"{path}:2: [issuer] url: must be an https URL (http only for a loopback address)",
        f"{path}:6: [server] shutdown_grace: 'soon' is not a duration: write it as in '90s', '10m' or '1h30m'",
        f"{path}:5: [server] lisen: is not a setting; did you mean 'listen'?",
        f"{path}: [policy]: is required",
        f"{path}:11: polcy: is not a setting; did you mean 'policy'?",
    ]


@pytest.mark.parametrize(
    "url",
    [
        "issuer.prod.example",
        "https://",
        "https://issuer.prod.example/",
        "https://issuer.prod.example?x=1",
        "https://issuer.prod.example#x",
        "https://user@issuer.prod.example",
        "ftp://issuer.prod.example",
        "http://10.0.0.1",
    ],
)
def test_refuses_an_issuer_that_verifiers_could_not_compare(tmp_path: Path, url: str) -> None:
    (fault,) = faults_of(write(tmp_path, MINIMAL.replace("https://issuer.prod.example", url)))
    assert "[issuer] url" in fault


@pytest.mark.parametrize("url", ["https://issuer.prod.example/tenant", "http://127.0.0.1:8080", "http://localhost:1"])
def test_accepts_an_issuer_with_a_path_or_on_loopback(tmp_path: Path, url: str) -> None:
    config = load_config(write(tmp_path, MINIMAL.replace("https://issuer.prod.example", url)), {})
    assert config.issuer.url == url


def test_refuses_a_trust_domain_that_is_not_canonical(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + '[spire]\nfederated_trust_domains = ["Partner.example"]\n')
    (fault,) = faults_of(path)
    assert fault.startswith(f"{path}:10: [spire] federated_trust_domains: ")


def test_says_what_to_do_when_there_is_no_file(tmp_path: Path) -> None:
    (fault,) = faults_of(tmp_path / "none.toml")
    assert fault.endswith("no such file; `issuer init` writes one to start from")


def test_says_where_the_toml_breaks(tmp_path: Path) -> None:
    (fault,) = faults_of(write(tmp_path, '[issuer]\nurl = "x\n'))
    assert "not valid TOML" in fault
    assert "line 2" in fault


def test_refuses_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "issuer.toml"
    path.write_bytes(b"\xff\xfe")
    (fault,) = faults_of(path)
    assert "cannot be read" in fault


def test_traces_are_configured(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, MINIMAL), {}).tracing.endpoint is None
    text = MINIMAL + (
        '[tracing]\nendpoint = "https://collector.example/v1/traces"\nratio = 0.5\nidentities = true\n'
        'trusted_callers = ["spiffe://prod.example/ns/gateway/sa/*"]\ntimeout = "2s"\n'
        'max_queue = 10\nca_file = "ca.pem"\n'
    )
    tracing = load_config(write(tmp_path, text), {"ISSUER_TRACING_RATIO": "0.25"}).tracing
    assert (tracing.endpoint, tracing.ratio, tracing.identities) == ("https://collector.example/v1/traces", 0.25, True)
    assert [pattern.text for pattern in tracing.trusted_callers] == ["spiffe://prod.example/ns/gateway/sa/*"]
    assert (tracing.timeout, tracing.max_queue, tracing.ca_file) == (timedelta(seconds=2), 10, tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ('endpoint = "http://collector.example/v1/traces"', "must be an https URL"),
        ('endpoint = "https://user@collector.example/"', "without user"),
        ("ratio = 1.5", "less than or equal to 1"),
        ("ratio = -0.1", "greater than or equal to 0"),
        ('trusted_callers = ["spiffe://*/a"]', "the trust domain is always literal"),
        ('trusted_callers = [""]', "a workload begins with"),
        ("max_queue = 0", "greater than or equal to 1"),
        ('timeout = "2m"', "less than or equal to"),
    ],
)
def test_faults_of_tracing_are_told(tmp_path: Path, setting: str, fault: str) -> None:
    (told,) = faults_of(write(tmp_path, f"{MINIMAL}[tracing]\n{setting}\n"))
    assert "[tracing]" in told
    assert fault in told


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ('webhook_url = "https://bot.example/x"', "set both of 'webhook_url' and 'webhook_secret_file'"),
        ('webhook_secret_file = "secret"', "set both of 'webhook_url' and 'webhook_secret_file'"),
        ('webhook_url = "http://bot.example/x"\nwebhook_secret_file = "s"', "must be an https URL"),
        ('webhook_url = "https://u@bot.example/x"\nwebhook_secret_file = "s"', "without user, query and fragment"),
    ],
)
def test_a_webhook_is_https_and_signed(tmp_path: Path, section: str, fault: str) -> None:
    [told] = faults_of(write(tmp_path, f"{MINIMAL}\n[approvals]\n{section}\n"))
    assert fault in told


def test_a_webhook_on_loopback_may_be_plain(tmp_path: Path) -> None:
    section = '[approvals]\nwebhook_url = "http://127.0.0.1:1/x"\nwebhook_secret_file = "s"\n'
    config = load_config(write(tmp_path, f"{MINIMAL}\n{section}"), {})
    assert config.approvals.webhook_secret_file == tmp_path / "s"


OIDC = '[[oidc.issuers]]\nname = "people"\nurl = "https://login.example"\naudience = "spiffe-issuer"\n'


def test_an_oidc_issuer_is_asked_within_bounds_unless_told_otherwise(tmp_path: Path) -> None:
    (issuer,) = load_config(write(tmp_path, MINIMAL + OIDC + 'ca_file = "ca.pem"\n'), {}).oidc.issuers
    assert (issuer.algorithms, issuer.jwks_uri, issuer.ca_file) == (("ES256", "RS256"), None, tmp_path / "ca.pem")
    assert (issuer.timeout, issuer.max_key_age) == (timedelta(seconds=3), timedelta(hours=24))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('algorithms = ["none"]', "'ES256' or 'RS256'"),
        ('algorithms = ["ES256", "HS256"]', "'ES256' or 'RS256'"),
        ("algorithms = []", "at least 1"),
        ('timeout = "1m"', "less than or equal"),
        ('max_key_age = "30d"', "less than or equal"),
        ('jwks_uri = "http://keys.example"', "https"),
        ('audiance = "x"', "is not a setting"),
    ],
)
def test_refuses_an_oidc_issuer_that_is_not_strict(tmp_path: Path, line: str, fault: str) -> None:
    told = faults_of(write(tmp_path, MINIMAL + OIDC + line))
    assert all("[oidc] issuers" in each for each in told)
    assert fault in told[0]


def test_refuses_two_oidc_issuers_that_cannot_be_told_apart(tmp_path: Path) -> None:
    (told,) = faults_of(write(tmp_path, MINIMAL + OIDC + OIDC))
    assert "two issuers have the same name" in told
    (told,) = faults_of(write(tmp_path, MINIMAL + OIDC + OIDC.replace("people", "others")))
    assert "two issuers have the same url and audience" in told


VOUCHES = '[[approvals.evidence]]\nissuer = "people"\n'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (VOUCHES + 'spiffe_id = "spiffe://people.example/{sub}"\n', "there is no [[oidc.issuers]]"),
        (OIDC + VOUCHES, "empty never means all"),
        (OIDC + VOUCHES + 'spiffe_id = "spiffe://people.example/{sub}/x"\n', "should match pattern"),
        (OIDC + VOUCHES + 'spiffe_id = "spiffe://{sub}"\n', "should match pattern"),
        (OIDC + VOUCHES + 'people = {"https://people.example/alice" = "1"}\n', "spiffe://"),
        (OIDC + VOUCHES + 'people = {"spiffe://people.example/alice" = ""}\n', "name the `sub`"),
        ('[approvals]\nevidence_max_age = "2h"\n', "less than or equal"),
    ],
)
def test_refuses_evidence_that_would_not_name_a_person(tmp_path: Path, text: str, fault: str) -> None:
    (told,) = faults_of(write(tmp_path, MINIMAL + text))
    assert "[approvals]" in told
    assert fault in told


def test_evidence_is_read_into_rules(tmp_path: Path) -> None:
    text = OIDC + VOUCHES + 'spiffe_id = "spiffe://people.example/user/{employee}"\npeople = {"spiffe://a.b/c" = "1"}\n'
    rules = evidence_rules(load_config(write(tmp_path, MINIMAL + text), {}).approvals)
    (anchor,) = rules.anchors
    assert (anchor.source, anchor.prefix, anchor.claim) == ("people", "spiffe://people.example/user", "employee")
    assert (anchor.people, rules.max_age, rules.gateways) == ({"spiffe://a.b/c": "1"}, 300, frozenset())


def test_status_lists_are_configured(tmp_path: Path) -> None:
    url = "https://issuer.prod.example"
    assert publishing_of(load_config(write(tmp_path, MINIMAL), {})) == Publishing(url, 30, 600)
    text = MINIMAL + '[status]\nttl = "5s"\nvalid_for = "10s"\n'
    assert publishing_of(load_config(write(tmp_path, text), {})) == Publishing(url, 5, 10)


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ('ttl = "500ms"', "greater than or equal to"),
        ('ttl = "2h"\nvalid_for = "1d"', "less than or equal to"),
        ('ttl = "10s"\nvalid_for = "19s"', "at least twice 'ttl'"),
        ('ttl = "6m"', "at least twice 'ttl'"),
        ('valid_for = "25h"', "at most a day"),
    ],
)
def test_faults_of_status_lists_are_told(tmp_path: Path, section: str, fault: str) -> None:
    (told,) = faults_of(write(tmp_path, f"{MINIMAL}[status]\n{section}\n"))
    assert "[status]" in told
    assert fault in told


def test_decisions_are_kept_for_as_long_as_exceptions_for_legacy_live(tmp_path: Path) -> None:
    def text(keep: str) -> str:
        legacy = MINIMAL.replace("[policy]\n", '[policy]\nlegacy_max_ttl = "30d"\n')
        return legacy.replace("[ledger]\n", f'[ledger]\nkeep = "{keep}"\n')

    assert load_config(write(tmp_path, text("30d")), {}).ledger.keep == timedelta(days=30)
    (told,) = faults_of(write(tmp_path, text("29d")))
    assert "legacy_max_ttl" in told


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ('listen = "127.0.0.1:8444"', "set both of 'listen' and 'url'"),
        ('url = "https://in.example"', "set both of 'listen' and 'url'"),
        ('listen = "127.0.0.1:8444"\nurl = "http://127.0.0.1:8444"', "must be an https URL"),
        ('listen = "127.0.0.1:8444"\nurl = "https://in.example/"', "does not end in '/'"),
        ('listen = "127.0.0.1:8444"\nurl = "https://in.example?x"', "without user, query and fragment"),
    ],
)
def test_the_oauth_listener_has_an_address_and_a_name(tmp_path: Path, section: str, fault: str) -> None:
    [told] = faults_of(write(tmp_path, f"{MINIMAL}\n[oauth_http]\n{section}\n"))
    assert fault in told
