package main

import (
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// shakeHands makes connections, one after the other in each caller, and closes them.
func shakeHands(given settings, config *tls.Config, request []byte) error {
	callers := make([]*caller, given.callers)
	for number := range callers {
		own := config.Clone()
		if given.protocol == "grpc" {
			own.NextProtos = []string{"h2"}
		}
		if given.handshakes == "resumed" {
			own.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		}
		one := connection(&handshaker{config: own, address: given.address, speaksHTTP2: given.protocol == "grpc"})
		if given.handshakes == "call" {
			one = &dialler{given, config, request}
		}
		callers[number] = &caller{settings: given, number: number, connection: one, seen: newHistogram(), codes: map[string]int{}}
		if _, err := one.call(given.timeout); err != nil {
			return fmt.Errorf("the first handshake: %w", err)
		}
	}
	waitForGo(nil)
	before, started := cpuSeconds(), time.Now()
	var running sync.WaitGroup
	for _, each := range callers {
		running.Go(func() { each.run(started) })
	}
	running.Wait()
	found := newReport(time.Since(started).Seconds(), cpuSeconds()-before)
	for _, each := range callers {
		if each.failure != nil {
			return each.failure
		}
		if one, ok := each.connection.(*handshaker); ok {
			found.Resumed += one.resumed
		}
		found.add(each)
	}
	return tell(found.finished(), nil)
}

// handshaker makes a connection for each "call" and reads what the server says first: only there a session comes with it.
type handshaker struct {
	config      *tls.Config
	address     string
	speaksHTTP2 bool
	resumed     int
}

func (h *handshaker) call(timeout time.Duration) ([]byte, error) {
	made, err := tls.DialWithDialer(dialerFor(timeout), "tcp", h.address, h.config)
	if err != nil {
		return nil, err
	}
	defer made.Close()
	if made.ConnectionState().DidResume {
		h.resumed++
	}
	if err := made.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	if !h.speaksHTTP2 {
		return nil, h.firstAnswer(made)
	}
	return nil, h.firstSettings(made)
}

// firstSettings sends an HTTP/2 preface and reads the server's: TLS 1.3 hands out sessions after the handshake.
func (h *handshaker) firstSettings(made *tls.Conn) error {
	if _, err := made.Write([]byte(http2.ClientPreface)); err != nil {
		return err
	}
	framer := http2.NewFramer(made, made)
	if err := framer.WriteSettings(); err != nil {
		return err
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return err
		}
		if _, ok := frame.(*http2.SettingsFrame); ok {
			return nil
		}
	}
}

func (h *handshaker) firstAnswer(made *tls.Conn) error {
	if _, err := fmt.Fprintf(made, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", h.address); err != nil {
		return err
	}
	_, err := made.Read(make([]byte, 1024))
	return err
}

// dialler makes each call on a connection of its own.
type dialler struct {
	settings
	config  *tls.Config
	request []byte
}

func (d *dialler) call(timeout time.Duration) ([]byte, error) {
	one, err := dial(d.settings, d.config, d.request)
	if err != nil {
		return nil, err
	}
	defer hangUp(one)
	return one.call(timeout)
}
