// Measures OPA, as a library, on the grants and requests that bench_engines.py wrote, and prints one JSON line.
//
// The grants are data, found by identity and audience: what OPA's documentation advises for speed. The query is
// prepared once, the store filled once, and inputs are parsed before the clock runs.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sort"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

const module = `package issuer

default allow := false

given contains scope if {
	some who in [input.caller, input.folder]
	some grant in data.grants[who][input.audience]
	input.posture == "healthy"
	startswith(input.ticket, "CHG-")
	some scope in grant.scopes
}

allow if every scope in input.scopes { scope in given }
`

func main() {
	var document struct {
		Data     map[string]any   `json:"data"`
		Requests []map[string]any `json:"requests"`
		Seconds  float64          `json:"seconds"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&document); err != nil {
		panic(err)
	}
	background := context.Background()
	started := time.Now()
	query, err := rego.New(
		rego.Query("data.issuer.allow"), rego.Module("issuer.rego", module), rego.Store(inmem.NewFromObject(document.Data)),
	).PrepareForEval(background)
	if err != nil {
		panic(err)
	}
	loaded := time.Since(started)
	inputs := make([]ast.Value, len(document.Requests))
	for i, request := range document.Requests {
		if inputs[i], err = ast.InterfaceToValue(request); err != nil {
			panic(err)
		}
	}
	var times []float64
	end := time.Now().Add(time.Duration(document.Seconds * float64(time.Second)))
	for i := 0; time.Now().Before(end); i++ {
		before := time.Now()
		result, err := query.Eval(background, rego.EvalParsedInput(inputs[i%len(inputs)]))
		times = append(times, float64(time.Since(before).Nanoseconds())/1000)
		if err != nil || !result.Allowed() {
			panic(fmt.Sprintf("a request of the benchmark was denied: %v", err))
		}
	}
	sort.Float64s(times)
	var memory runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&memory)
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"load_seconds": loaded.Seconds(), "decide_p50_us": times[len(times)/2], "decide_p99_us": times[len(times)*99/100],
		"held_bytes": memory.HeapAlloc,
	})
}
