// Command token gets a token from spiffe-issuer, as the workload that SPIRE knows this process as, and prints it.
//
//	SPIFFE_ENDPOINT_SOCKET=unix:///run/spire/agent.sock token ISSUER_ADDRESS ISSUER_SPIFFE_ID AUDIENCE SCOPE...
//
// A refusal goes to standard error, with the reason and the decision that the issuer's operators can look up.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffegrpc/grpccredentials"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	issuerv1 "spiffe-issuer.test/example/issuer_api/v1"
)

func main() {
	if len(os.Args) < 5 {
		fmt.Fprintln(os.Stderr, "usage: token ISSUER_ADDRESS ISSUER_SPIFFE_ID AUDIENCE SCOPE...")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	request := &issuerv1.IssueTokenRequest{Audience: os.Args[3], Scopes: os.Args[4:]}
	token, err := issueToken(ctx, os.Args[1], os.Args[2], request)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(token)
}

func issueToken(ctx context.Context, address, issuer string, request *issuerv1.IssueTokenRequest) (string, error) {
	issuerID, err := spiffeid.FromString(issuer)
	if err != nil {
		return "", err
	}
	// Our SVID and the trust bundles, from the Workload API that SPIFFE_ENDPOINT_SOCKET names, kept fresh.
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithDefaultX509SVIDPicker(pick))
	if err != nil {
		return "", err
	}
	defer source.Close()
	// The issuer is recognised by its SPIFFE ID; nobody else gets to see the request.
	credentials := grpccredentials.MTLSClientCredentials(source, source, tlsconfig.AuthorizeID(issuerID))
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials))
	if err != nil {
		return "", err
	}
	defer connection.Close()
	answer, err := issuerv1.NewIssuerServiceClient(connection).IssueToken(ctx, request)
	if err != nil {
		return "", explained(err)
	}
	return answer.GetToken(), nil
}

// pick chooses the identity whose SPIFFE ID is in SPIFFE_ID, or the first where that is empty; else there is none.
func pick(svids []*x509svid.SVID) *x509svid.SVID {
	wanted := os.Getenv("SPIFFE_ID")
	for _, svid := range svids {
		if wanted == "" || svid.ID.String() == wanted {
			return svid
		}
	}
	return nil
}

// explained puts what programs may rely on first: the reason and the decision, from google.rpc.ErrorInfo.
func explained(err error) error {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			text := fmt.Sprintf("%s (decision %s)", info.GetReason(), info.GetMetadata()["decisionId"])
			return errors.Join(errors.New(text), err)
		}
	}
	return err
}
