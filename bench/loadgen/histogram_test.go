package main

import (
	"testing"
	"time"
)

func TestEveryValueLiesInItsPlaceAndNotAboveIt(t *testing.T) {
	for value := uint64(0); value < 1<<40; value += value/3 + 1 {
		number := place(value)
		if upper(number) < value || (number > 0 && upper(number-1) >= value) {
			t.Fatalf("%d is counted at %d, which ends at %d", value, number, upper(number))
		}
		if float64(upper(number)-value) > float64(value)/parts {
			t.Fatalf("%d is told as %d", value, upper(number))
		}
	}
}

func TestQuantilesAreThoseOfTheValues(t *testing.T) {
	one, other := newHistogram(), newHistogram()
	for number := 1; number <= 1000; number++ {
		each := one
		if number%2 == 0 {
			each = other
		}
		each.add(time.Duration(number) * time.Microsecond)
	}
	one.merge(other)
	for part, wanted := range map[float64]time.Duration{0.5: 500, 0.99: 990, 1: 1000} {
		found := one.quantile(part)
		if found < wanted*time.Microsecond || found > wanted*time.Microsecond*129/128 {
			t.Errorf("quantile %v is %v", part, found)
		}
	}
}

func TestAnEmptyHistogramHasNoQuantiles(t *testing.T) {
	if found := newHistogram().quantile(0.99); found != 0 {
		t.Errorf("found %v", found)
	}
}
