// Command loadgen puts load on a server over mutual TLS and tells what it met, as one JSON object.
//
// It says "ready", with the first answer, when every connection stands and has carried one call; it starts when a line
// comes on its standard input, so that whoever started it can look at the server's CPU time before and after.
//
// Closed loop (the default): each caller makes its next call when it has the answer to the last one; where it is refused,
// when the server's RetryInfo says. Under a stall such callers wait and ask for nothing, so their latencies leave out what
// others would have waited ("coordinated omission").
//
// Open loop (-rate): calls begin at fixed times, whatever became of those before. A latency is counted from the time at
// which its call was due, not from the one at which it was sent, so a stall counts for every call that was due in it.
//
// Population (-think): each caller asks, waits as long as -think says, more or less, and asks again; with -obey it waits
// as long as the server's RetryInfo says where it is refused.
//
// Handshakes (-handshakes fresh|resumed|call): connections are made and closed; with "call" each carries one call.
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"time"
)

// settings are what the command line says.
type settings struct {
	address, name, roots, chain, key string
	protocol, method, request        string
	callers, connections             int
	seconds, rate                    float64
	think, timeout, lead             time.Duration
	obey                             bool
	handshakes                       string
}

func main() {
	var given settings
	flag.StringVar(&given.address, "address", "", "host:port")
	flag.StringVar(&given.name, "name", "", "the DNS name or IP address that the server's certificate must have; none: its chain alone is checked")
	flag.StringVar(&given.roots, "roots", "", "PEM file of those who may have signed the server's certificate")
	flag.StringVar(&given.chain, "chain", "", "PEM file of our chain")
	flag.StringVar(&given.key, "key", "", "PEM file of our private key")
	flag.StringVar(&given.protocol, "protocol", "grpc", "grpc, or http for a form that is posted")
	flag.StringVar(&given.method, "method", "", "the gRPC method, or the path")
	flag.StringVar(&given.request, "request", "", "the request in base64; http: the form's body")
	flag.IntVar(&given.callers, "callers", 1, "callers at once")
	flag.IntVar(&given.connections, "connections", 0, "connections that they share; default: one each")
	flag.Float64Var(&given.seconds, "seconds", 2, "how long")
	flag.Float64Var(&given.rate, "rate", 0, "open loop: calls a second, of all callers together")
	flag.DurationVar(&given.think, "think", 0, "population: the pause of a caller between its calls")
	flag.BoolVar(&given.obey, "obey", false, "population: wait as long as RetryInfo says")
	flag.DurationVar(&given.lead, "lead", 0, "so long at the beginning what is asked counts neither for latencies nor for goodput")
	flag.DurationVar(&given.timeout, "timeout", 20*time.Second, "the deadline of a call")
	flag.StringVar(&given.handshakes, "handshakes", "", "fresh, resumed, or call")
	flag.Parse()
	if given.connections == 0 {
		given.connections = given.callers
	}
	if err := run(given); err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
}

func run(given settings) error {
	request, err := base64.StdEncoding.DecodeString(given.request)
	if err != nil {
		return fmt.Errorf("-request: %w", err)
	}
	config, err := tlsConfig(given)
	if err != nil {
		return err
	}
	if given.handshakes != "" {
		return shakeHands(given, config, request)
	}
	connections, err := dialAll(given, config, request)
	if err != nil {
		return err
	}
	first, err := connections[0].call(given.timeout)
	for _, each := range connections[1:] {
		if err == nil {
			_, err = each.call(given.timeout)
		}
	}
	if err != nil {
		return fmt.Errorf("the first call: %w", err)
	}
	waitForGo(first)
	return tell(load(given, connections, len(first)))
}

// waitForGo says that all is ready, and returns when a line comes.
func waitForGo(first []byte) {
	fmt.Println("ready", base64.StdEncoding.EncodeToString(first))
	runtime.GC()
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
}

func tell(found *report, err error) error {
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}
