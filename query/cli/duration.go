package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// formatNanos prints a duration in about three digits: 420ns, 1.23ms, 45.6s,
// 3m05s, 2h07m, 4d03h.
func formatNanos(ns int64, ascii bool) string {
	if ns < 0 {
		if ns == -ns { // the least number
			ns++
		}
		return "-" + formatNanos(-ns, ascii)
	}
	d := time.Duration(ns)
	micro := "µs"
	if ascii {
		micro = "us"
	}
	switch {
	case d < time.Microsecond:
		return strconv.FormatInt(ns, 10) + "ns"
	case d < time.Millisecond:
		return digits(float64(ns)/1e3) + micro
	case d < time.Second:
		return digits(float64(ns)/1e6) + "ms"
	case d < time.Minute:
		return digits(float64(ns)/1e9) + "s"
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	const day = 24 * time.Hour
	if d < 100*day {
		return fmt.Sprintf("%dd%02dh", d/day, d%day/time.Hour)
	}
	return fmt.Sprintf("%dd", d/day)
}

// digits prints v, from 1 to 1000, in three digits and without zeros at the end.
func digits(v float64) string {
	decimals := 0
	switch {
	case v < 10:
		decimals = 2
	case v < 100:
		decimals = 1
	}
	s := strconv.FormatFloat(v, 'f', decimals, 64)
	if decimals > 0 {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// count prints n and what it counts: 1 span, 2 spans.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}
