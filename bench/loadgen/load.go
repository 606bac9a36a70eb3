package main

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// shortest is the part of the first answer's length that every other answer must have: a batch that was refused in
// part, or an empty answer, is no answer.
const shortest = 0.9

// caller makes calls one after the other, and counts what it met.
type caller struct {
	settings
	number     int
	connection connection
	least      int
	seen       *histogram
	codes      map[string]int
	late       int
	onTime     int
	from       time.Time
	until      time.Time
	failure    error
}

// load lets all callers call until the time is over.
func load(given settings, connections []connection, first int) (*report, error) {
	callers := make([]*caller, given.callers)
	for number := range callers {
		callers[number] = &caller{
			settings: given, number: number, connection: connections[number%len(connections)],
			least: int(float64(first) * shortest), seen: newHistogram(), codes: map[string]int{},
		}
	}
	before, started := cpuSeconds(), time.Now()
	var running sync.WaitGroup
	for _, each := range callers {
		running.Go(func() { each.run(started) })
	}
	running.Wait()
	elapsed, used := time.Since(started).Seconds(), cpuSeconds()-before
	found := newReport(elapsed, used)
	found.measured = given.seconds - given.lead.Seconds()
	for _, each := range callers {
		if each.failure != nil {
			return nil, each.failure
		}
		found.add(each)
	}
	return found.finished(), nil
}

func (c *caller) run(started time.Time) {
	until := started.Add(time.Duration(c.seconds * float64(time.Second)))
	c.from, c.until = started.Add(c.lead), until
	switch {
	case c.rate > 0:
		c.openLoop(started, until)
	case c.think > 0:
		c.population(until)
	default:
		c.closedLoop(until)
	}
}

func (c *caller) closedLoop(until time.Time) {
	for now := time.Now(); now.Before(until) && c.failure == nil; now = time.Now() {
		if told := c.ask(now); told > 0 {
			time.Sleep(min(told, time.Until(until)))
		}
	}
}

// openLoop gives each caller every n-th moment of one fixed schedule.
func (c *caller) openLoop(started, until time.Time) {
	interval := float64(time.Second) / c.rate
	for due := float64(c.number) * interval; c.failure == nil; due += interval * float64(c.callers) {
		at := started.Add(time.Duration(due))
		if !at.Before(until) {
			return
		}
		if wait := time.Until(at); wait > 0 {
			time.Sleep(wait)
		} else if wait < -time.Millisecond {
			c.late++
		}
		c.ask(at)
	}
}

func (c *caller) population(until time.Time) {
	time.Sleep(time.Duration(rand.Float64() * float64(c.think)))
	for now := time.Now(); now.Before(until) && c.failure == nil; now = time.Now() {
		pause := time.Duration((0.5 + rand.Float64()) * float64(c.think))
		if told := c.ask(now); told > 0 && c.obey {
			pause = told
		}
		time.Sleep(min(pause, time.Until(until)))
	}
}

// ask makes one call, counts its latency from a moment on where it succeeds, and returns how long a refusal says to wait.
func (c *caller) ask(from time.Time) time.Duration {
	answer, err := c.connection.call(c.timeout)
	code, wait := outcome(err)
	c.codes[code]++
	switch {
	case err == nil && len(answer) < c.least:
		c.failure = fmt.Errorf("an answer of %d bytes, where the first had %.0f", len(answer), float64(c.least)/shortest)
	case err == nil:
		c.served(from, time.Now())
	case wait == 0 && c.rate == 0 && c.think == 0:
		c.failure = fmt.Errorf("a call failed: %w", err) // beyond the capacity an answer may take too long; not here
	}
	return wait
}

// served counts an answer. What was asked in the lead is not looked at, and what came after the end was served too late
// to count as goodput.
func (c *caller) served(asked, answered time.Time) {
	if !asked.Before(c.from) {
		c.seen.add(answered.Sub(asked))
	}
	if !answered.Before(c.from) && answered.Before(c.until) {
		c.onTime++
	}
}
