// Command call makes the calls that it reads from standard input, one JSON object a line, and prints what became of each.
//
// Usage: call ADDRESS NAME ROOTS CHAIN KEY KEEPALIVE_SECONDS. It knows no messages: requests and answers are bytes.
// tests/support/foreign_clients.py says what the objects hold.
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
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
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
	Timeout  float64           `json:"timeout"`
	Cancel   float64           `json:"cancel"`
	Metadata map[string]string `json:"metadata"`
	Gzip     bool              `json:"gzip"`
	Take     int               `json:"take"`
	Rest     float64           `json:"rest"`
	Lanes    int               `json:"lanes"`
	Seconds  float64           `json:"seconds"`
	Flood    int               `json:"flood"`
}

type outcome struct {
	Code    int            `json:"code"`
	Message string         `json:"message"`
	Answers [][]byte       `json:"answers"`
	Text    string         `json:"text"`
	Binary  []byte         `json:"binary"`
	Status  []byte         `json:"status"`
	Tally   map[string]int `json:"tally"`
}

func main() {
	connection, err := dial(os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6])
	exitOn(err)
	defer connection.Close()
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var each wanted
		exitOn(json.Unmarshal(lines.Bytes(), &each))
		exitOn(json.NewEncoder(os.Stdout).Encode(done(connection, each)))
	}
	exitOn(lines.Err())
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func dial(address, name, roots, chain, key, alive string) (*grpc.ClientConn, error) {
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
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(64<<20)),
	}
	if every, err := strconv.Atoi(alive); err == nil && every > 0 {
		pings := keepalive.ClientParameters{Time: seconds(float64(every)), Timeout: time.Second}
		options = append(options, grpc.WithKeepaliveParams(pings))
	}
	return grpc.NewClient("passthrough:///"+address, options...)
}

func seconds(count float64) time.Duration { return time.Duration(count * float64(time.Second)) }

func done(connection *grpc.ClientConn, each wanted) outcome {
	switch {
	case each.Flood > 0:
		return flooded(connection, each)
	case each.Lanes > 0:
		return loaded(connection, each)
	default:
		return call(connection, each)
	}
}

// flooded begins calls and cancels each at once.
func flooded(connection *grpc.ClientConn, each wanted) outcome {
	for range each.Flood {
		ctx, cancel := context.WithCancel(context.Background())
		if stream, err := connection.NewStream(ctx, &grpc.StreamDesc{}, each.Method); err == nil {
			_ = stream.SendMsg(&each.Messages[0])
		}
		cancel()
	}
	return outcome{}
}

// loaded calls without a pause in several lanes, and counts what the calls end with.
func loaded(connection *grpc.ClientConn, each wanted) outcome {
	var lock sync.Mutex
	var lanes sync.WaitGroup
	tally := map[string]int{}
	until := time.Now().Add(seconds(each.Seconds))
	for range each.Lanes {
		lanes.Add(1)
		go func() {
			defer lanes.Done()
			for time.Now().Before(until) {
				found := call(connection, each)
				lock.Lock()
				tally[fmt.Sprintf("%d %s", found.Code, found.Message)]++
				lock.Unlock()
			}
		}()
	}
	lanes.Wait()
	return outcome{Tally: tally}
}

func call(connection *grpc.ClientConn, each wanted) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), seconds(each.Timeout))
	defer cancel()
	if each.Cancel > 0 {
		time.AfterFunc(seconds(each.Cancel), cancel)
	}
	ctx = metadata.NewOutgoingContext(ctx, metadata.New(each.Metadata))
	var options []grpc.CallOption
	if each.Gzip {
		options = append(options, grpc.UseCompressor(gzip.Name))
	}
	description := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	stream, err := connection.NewStream(ctx, description, each.Method, options...)
	if err != nil {
		return ended(err, nil, nil)
	}
	for index := range each.Messages {
		if err := stream.SendMsg(&each.Messages[index]); err != nil && err != io.EOF {
			return ended(err, nil, nil)
		}
	}
	if err := stream.CloseSend(); err != nil {
		return ended(err, nil, nil)
	}
	answers := [][]byte{}
	for each.Take == 0 || len(answers) < each.Take {
		var answer []byte
		if err := stream.RecvMsg(&answer); err != nil {
			return ended(err, answers, stream.Trailer())
		}
		answers = append(answers, answer)
	}
	time.Sleep(seconds(each.Rest))
	return outcome{Answers: answers}
}

func ended(err error, answers [][]byte, trailer metadata.MD) outcome {
	if err == io.EOF {
		return outcome{Answers: answers}
	}
	found := status.Convert(err)
	told := outcome{Code: int(found.Code()), Message: found.Message(), Answers: answers}
	if text := trailer.Get("x-a"); len(text) > 0 {
		told.Text = text[0]
	}
	if binary := trailer.Get("x-detail-bin"); len(binary) > 0 {
		told.Binary = []byte(binary[0])
	}
	if len(found.Details()) > 0 {
		told.Status, _ = proto.Marshal(found.Proto())
	}
	return told
}
