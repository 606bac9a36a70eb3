// Command nullserver is a reference: a gRPC server over mutual TLS whose one method does nothing, as grpc-go makes it.
//
// Usage: nullserver ROOTS CHAIN KEY. Prints its address, then serves until its standard input ends.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// raw passes bytes through, as ours do: no server is charged for protobuf.
type raw struct{}

func (raw) Marshal(value any) ([]byte, error) { return *value.(*[]byte), nil }
func (raw) Unmarshal(from []byte, to any) error {
	*to.(*[]byte) = append([]byte{}, from...)
	return nil
}
func (raw) Name() string { return "proto" }

func null(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var request []byte
	if err := decode(&request); err != nil {
		return nil, err
	}
	return &[]byte{}, nil
}

func main() {
	config, err := tlsConfig(os.Args[1], os.Args[2], os.Args[3])
	exitOn(err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	exitOn(err)
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(config)), grpc.ForceServerCodec(raw{}))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bench.NullService",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Null", Handler: null}},
	}, struct{}{})
	fmt.Println(listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		server.Stop()
	}()
	exitOn(server.Serve(listener))
}

func tlsConfig(roots, chain, key string) (*tls.Config, error) {
	trusted, err := os.ReadFile(roots)
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(chain, key)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(trusted)
	return &tls.Config{ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, Certificates: []tls.Certificate{pair}}, nil
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "nullserver:", err)
		os.Exit(1)
	}
}
