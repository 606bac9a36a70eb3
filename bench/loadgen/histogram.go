package main

import (
	"math"
	"math/bits"
	"time"
)

// Each power of two of nanoseconds is cut into so many equal parts: a quantile is at most 1/128 of itself off.
const (
	partBits = 7
	parts    = 1 << partBits
)

// histogram counts latencies in bounded memory.
type histogram struct {
	counts [(64 - partBits) * parts]uint32
	count  uint64
	sum    time.Duration
	most   time.Duration
}

func newHistogram() *histogram { return &histogram{} }

func (h *histogram) add(latency time.Duration) {
	latency = max(latency, 0)
	h.counts[place(uint64(latency))]++
	h.count++
	h.sum += latency
	h.most = max(h.most, latency)
}

func (h *histogram) merge(other *histogram) {
	for number, count := range other.counts {
		h.counts[number] += count
	}
	h.count += other.count
	h.sum += other.sum
	h.most = max(h.most, other.most)
}

func (h *histogram) mean() time.Duration {
	if h.count == 0 {
		return 0
	}
	return h.sum / time.Duration(h.count)
}

// quantile returns the smallest latency that so great a part of all is not above; 0 where there is none.
func (h *histogram) quantile(part float64) time.Duration {
	wanted := uint64(math.Ceil(part * float64(h.count)))
	var seen uint64
	for number, count := range h.counts {
		seen += uint64(count)
		if seen >= wanted && seen > 0 {
			return min(time.Duration(upper(number)), h.most)
		}
	}
	return h.most
}

// place returns the number of the counter for a value: values below 128 have one each, above that each doubling has 128.
func place(value uint64) int {
	if value < parts {
		return int(value)
	}
	shift := bits.Len64(value) - partBits - 1
	return shift*parts + int(value>>shift)
}

// upper returns the largest value that is counted at a place.
func upper(number int) uint64 {
	if number < 2*parts {
		return uint64(number)
	}
	shift := number/parts - 1
	return uint64(number-shift*parts+1)<<shift - 1
}
