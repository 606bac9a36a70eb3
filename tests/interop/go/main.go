// Command verify checks a token with two Go libraries, from the issuer's URL alone.
//
// Usage: verify LIBRARY ISSUER AUDIENCE < token. Prints the claims as JSON, or the refusal on standard error with exit code 1.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	"github.com/lestrrat-go/jwx/v3/jwt"
)

type verifier func(ctx context.Context, issuer, audience, token string) (map[string]any, error)

var verifiers = map[string]verifier{"go-oidc": withGoOIDC, "jwx": withJwx}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	token, err := io.ReadAll(os.Stdin)
	exitOn(err)
	claims, err := verifiers[os.Args[1]](ctx, os.Args[2], os.Args[3], strings.TrimSpace(string(token)))
	exitOn(err)
	exitOn(json.NewEncoder(os.Stdout).Encode(claims))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// withGoOIDC discovers everything by itself; the audience is what it calls the client.
func withGoOIDC(ctx context.Context, issuer, audience, token string) (map[string]any, error) {
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return nil, err
	}
	verified, err := provider.Verifier(&oidc.Config{ClientID: audience}).Verify(ctx, token)
	if err != nil {
		return nil, err
	}
	claims := map[string]any{}
	return claims, verified.Claims(&claims)
}

// withJwx has no discovery of its own: it is given the jwks_uri that the metadata names.
func withJwx(ctx context.Context, issuer, audience, token string) (map[string]any, error) {
	uri, err := jwksURI(ctx, issuer)
	if err != nil {
		return nil, err
	}
	keys, err := jwk.Fetch(ctx, uri)
	if err != nil {
		return nil, err
	}
	// The algorithm of the key counts, not that of the token (RFC 8725 section 3.1).
	verified, err := jwt.Parse([]byte(token), jwt.WithKeySet(keys, jws.WithRequireKid(true)),
		jwt.WithIssuer(issuer), jwt.WithAudience(audience), jwt.WithRequiredClaim("jti"))
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(verified)
	if err != nil {
		return nil, err
	}
	claims := map[string]any{}
	return claims, json.Unmarshal(text, &claims)
}

// jwksURI reads RFC 8414 metadata, whose well-known name comes between host and path.
func jwksURI(ctx context.Context, issuer string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, issuer, nil)
	if err != nil {
		return "", err
	}
	request.URL.Path = "/.well-known/oauth-authorization-server" + request.URL.Path
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var metadata struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.NewDecoder(response.Body).Decode(&metadata); err != nil {
		return "", err
	}
	if metadata.Issuer != issuer {
		return "", fmt.Errorf("the metadata is that of %q", metadata.Issuer)
	}
	return metadata.JWKSURI, nil
}
