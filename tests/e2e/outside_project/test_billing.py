"""What a team writes that installed spiffe-issuer[testing]: nothing here knows how SPIRE or the issuer are started."""


def test_billing_reads_invoices(issuer, workload):
    billing = workload("spiffe://prod.example/ns/billing/sa/worker")
    with issuer.client(billing) as client:
        token = client.issue_token("https://invoices.billing.example", ["invoices.read"])
    assert token.scopes == ("invoices.read",)


def test_billing_may_not_delete_invoices(issuer, workload):
    billing = workload("spiffe://prod.example/ns/billing/sa/worker")
    with issuer.client(billing) as client:
        accesses = client.list_access()
    assert [scope.name for access in accesses for scope in access.scopes] == ["invoices.read"]
