// Command call makes the calls that it reads from standard input, one JSON object a line, and prints the outcome of each.
//
// Usage: call ADDRESS NAME ROOTS CHAIN KEY. It knows no messages: requests and answers are bytes.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// raw passes bytes through. It is named as the usual codec is, so that the content type is the usual one.
type raw struct{}

func (raw) Marshal(value any) ([]byte, error) { return *value.(*[]byte), nil }
func (raw) Unmarshal(from []byte, to any) error {
	*to.(*[]byte) = append([]byte{}, from...)
	return nil
}
func (raw) Name() string { return "proto" }

type wanted struct {
	Method   string            `json:"method"`
	Messages [][]byte          `json:"messages"`
	Timeout  int               `json:"timeout_ms"`
	Cancel   int               `json:"cancel_ms"`
	Metadata map[string]string `json:"metadata"`
	Gzip     bool              `json:"gzip"`
	Repeat   int               `json:"repeat"`
}

type outcome struct {
	Code     string   `json:"code"`
	Message  string   `json:"message"`
	Answers  [][]byte `json:"answers"`
	Trailers []string `json:"trailers"`
	Detail   []byte   `json:"detail"`
}

func main() {
	connection, err := dial(os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5])
	exitOn(err)
	defer connection.Close()
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var each wanted
		exitOn(json.Unmarshal(lines.Bytes(), &each))
		exitOn(json.NewEncoder(os.Stdout).Encode(repeated(connection, each)))
	}
	exitOn(lines.Err())
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func dial(address, name, roots, chain, key string) (*grpc.ClientConn, error) {
	pem, err := os.ReadFile(roots)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	pair, err := tls.LoadX509KeyPair(chain, key)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, ServerName: name}
	return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(64<<20)))
}

// repeated makes the call as often as wanted, and returns the first outcome that is not OK, or the last.
func repeated(connection *grpc.ClientConn, each wanted) outcome {
	found := call(connection, each)
	for count := 1; count < each.Repeat && found.Code == "OK"; count++ {
		found = call(connection, each)
	}
	return found
}

func call(connection *grpc.ClientConn, each wanted) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(each.Timeout)*time.Millisecond)
	defer cancel()
	if each.Cancel > 0 {
		time.AfterFunc(time.Duration(each.Cancel)*time.Millisecond, cancel)
	}
	ctx = metadata.NewOutgoingContext(ctx, metadata.New(each.Metadata))
	var options []grpc.CallOption
	if each.Gzip {
		options = append(options, grpc.UseCompressor(gzip.Name))
	}
	description := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	stream, err := connection.NewStream(ctx, description, each.Method, options...)
	if err != nil {
		return failed(err, nil, nil)
	}
	for index := range each.Messages {
		if err := stream.SendMsg(&each.Messages[index]); err != nil && err != io.EOF {
			return failed(err, nil, nil)
		}
	}
	if err := stream.CloseSend(); err != nil {
		return failed(err, nil, nil)
	}
	answers := [][]byte{}
	for {
		var answer []byte
		if err := stream.RecvMsg(&answer); err != nil {
			return failed(err, answers, stream.Trailer())
		}
		answers = append(answers, answer)
	}
}

func failed(err error, answers [][]byte, trailer metadata.MD) outcome {
	if err == io.EOF {
		return outcome{Code: "OK", Answers: answers}
	}
	found := outcome{Code: status.Code(err).String(), Message: status.Convert(err).Message(), Answers: answers}
	found.Trailers = trailer.Get("x-a")
	if detail := trailer.Get("x-detail-bin"); len(detail) > 0 {
		found.Detail = []byte(detail[0])
	}
	return found
}
