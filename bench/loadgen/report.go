package main

import (
	"syscall"
	"time"
)

// report is what is printed. Latencies are those of calls that succeeded.
type report struct {
	Calls   int            `json:"calls"`
	Seconds float64        `json:"seconds"`
	Codes   map[string]int `json:"codes"`
	Late    int            `json:"late"`
	Resumed int            `json:"resumed"`
	// Goodput is what was answered a second between the lead and the end, not what was still answered after it.
	Goodput float64 `json:"goodput"`
	MeanMs  float64 `json:"mean_ms"`
	P50Ms   float64 `json:"p50_ms"`
	P90Ms   float64 `json:"p90_ms"`
	P99Ms   float64 `json:"p99_ms"`
	P999Ms  float64 `json:"p999_ms"`
	MaxMs   float64 `json:"max_ms"`
	// CPUSeconds are our own, not the server's.
	CPUSeconds float64 `json:"load_cpu_seconds"`

	all      *histogram
	onTime   int
	measured float64
}

func newReport(seconds, cpu float64) *report {
	return &report{Seconds: seconds, CPUSeconds: cpu, Codes: map[string]int{}, all: newHistogram()}
}

func (r *report) add(one *caller) {
	r.all.merge(one.seen)
	r.Late += one.late
	r.onTime += one.onTime
	for code, times := range one.codes {
		r.Codes[code] += times
	}
}

func (r *report) finished() *report {
	r.Calls = r.Codes["OK"]
	if r.measured > 0 {
		r.Goodput = float64(r.onTime) / r.measured
	}
	r.MeanMs, r.MaxMs = milliseconds(r.all.mean()), milliseconds(r.all.most)
	r.P50Ms, r.P90Ms = milliseconds(r.all.quantile(0.5)), milliseconds(r.all.quantile(0.9))
	r.P99Ms, r.P999Ms = milliseconds(r.all.quantile(0.99)), milliseconds(r.all.quantile(0.999))
	return r
}

func milliseconds(each time.Duration) float64 { return float64(each) / 1e6 }

// cpuSeconds returns user and system time of this process.
func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}
