package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

const largestAnswer = 64 << 20

// connection makes one call, always the same.
type connection interface {
	call(timeout time.Duration) ([]byte, error)
}

// raw passes bytes through. It is named as the usual codec is, so that the content type is the usual one.
type raw struct{}

func (raw) Marshal(value any) ([]byte, error) { return *value.(*[]byte), nil }
func (raw) Unmarshal(from []byte, to any) error {
	*to.(*[]byte) = append([]byte{}, from...)
	return nil
}
func (raw) Name() string { return "proto" }

type grpcConnection struct {
	*grpc.ClientConn
	method  string
	request []byte
}

func (c grpcConnection) call(timeout time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var answer []byte
	err := c.Invoke(ctx, c.method, &c.request, &answer)
	return answer, err
}

// httpConnection is one connection to an OAuth server, which takes a form.
type httpConnection struct {
	client http.Client
	url    string
	form   []byte
}

func (c *httpConnection) call(timeout time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(c.form))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := c.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, largestAnswer))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("HTTP status %d: %s", response.StatusCode, answer)
	}
	return answer, err
}

// outcome returns the code of a call's end, and how long the server asks to be left alone.
func outcome(err error) (string, time.Duration) {
	told := status.Convert(err)
	for _, detail := range told.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return told.Code().String(), info.GetRetryDelay().AsDuration()
		}
	}
	return told.Code().String(), 0
}

func dialAll(given settings, config *tls.Config, request []byte) ([]connection, error) {
	connections := make([]connection, given.connections)
	for number := range connections {
		one, err := dial(given, config, request)
		if err != nil {
			return nil, err
		}
		connections[number] = one
	}
	return connections, nil
}

func dial(given settings, config *tls.Config, request []byte) (connection, error) {
	if given.protocol == "http" {
		transport := &http.Transport{TLSClientConfig: config, MaxConnsPerHost: 1, MaxIdleConnsPerHost: 1, DisableCompression: true}
		return &httpConnection{http.Client{Transport: transport}, "https://" + given.address + given.method, request}, nil
	}
	one, err := grpc.NewClient("passthrough:///"+given.address,
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(largestAnswer), grpc.WaitForReady(true)))
	return grpcConnection{one, given.method, request}, err
}

func tlsConfig(given settings) (*tls.Config, error) {
	roots, err := os.ReadFile(given.roots)
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(given.chain, given.key)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(roots) {
		return nil, fmt.Errorf("%s holds no certificate", given.roots)
	}
	config := &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, ServerName: given.name, MinVersion: tls.VersionTLS12}
	if given.name == "" {
		// SPIRE's server has no name but its SPIFFE ID, which its trust domain's own root is enough for here.
		config.InsecureSkipVerify = true
		config.VerifyConnection = func(state tls.ConnectionState) error { return verifyChain(state, pool) }
	}
	return config, nil
}

func verifyChain(state tls.ConnectionState, roots *x509.CertPool) error {
	intermediates := x509.NewCertPool()
	for _, each := range state.PeerCertificates[1:] {
		intermediates.AddCert(each)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates})
	return err
}

func hangUp(one connection) {
	switch each := one.(type) {
	case grpcConnection:
		_ = each.Close()
	case *httpConnection:
		each.client.CloseIdleConnections()
	}
}

func dialerFor(timeout time.Duration) *net.Dialer { return &net.Dialer{Timeout: timeout} }
