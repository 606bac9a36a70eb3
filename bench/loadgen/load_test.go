package main

import (
	"testing"
	"time"
)

func TestOnlyWhatIsAnsweredBetweenLeadAndEndIsGoodput(t *testing.T) {
	start := time.Now()
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	one := &caller{seen: newHistogram(), from: at(1), until: at(3)}
	one.served(at(0), at(0)) // in the lead
	one.served(at(0), at(2)) // asked in the lead
	one.served(at(2), at(2))
	one.served(at(2), at(4)) // answered too late, and waited for
	if one.onTime != 2 || one.seen.count != 2 {
		t.Errorf("goodput %d, latencies %d", one.onTime, one.seen.count)
	}
}
