package cli

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"golang.org/x/term"
)

// Request is a query as a person types it.
type Request struct {
	Expr string
	// Time is the time of an instant query; empty is now. See ParseTime.
	Time string
	// Range, as "1h", asks for that long until End; with Start it may be empty.
	// Either makes this a range query.
	Range string
	Start string
	End   string // empty is now
	// Step is the distance of points; empty fits them to the width.
	Step string
}

// Run asks c, prints the answer to out and what the server remarked on to
// notes.
func Run(ctx context.Context, c *Client, req Request, o Options, out, notes io.Writer) error {
	r, err := req.ask(ctx, c, o, time.Now())
	if err != nil {
		return err
	}
	if err := Render(out, r, o); err != nil {
		return err
	}
	return RenderNotes(notes, r)
}

func (q Request) ask(ctx context.Context, c *Client, o Options, now time.Time) (*Result, error) {
	if q.Range == "" && q.Start == "" {
		if q.End != "" || q.Step != "" {
			return nil, fmt.Errorf("read request: end and step are for range queries, which have a range or a start")
		}
		if q.Time == "" {
			return c.Instant(ctx, q.Expr, time.Time{})
		}
		at, err := ParseTime(q.Time, now)
		if err != nil {
			return nil, err
		}
		return c.Instant(ctx, q.Expr, at)
	}
	start, end, step, err := q.span(o, now)
	if err != nil {
		return nil, err
	}
	return c.Range(ctx, q.Expr, start, end, step)
}

// span returns the times of a range query.
func (q Request) span(o Options, now time.Time) (start, end time.Time, step time.Duration, err error) {
	fail := func(err error) (time.Time, time.Time, time.Duration, error) {
		return time.Time{}, time.Time{}, 0, err
	}
	if q.Time != "" {
		return fail(fmt.Errorf("read request: time is for instant queries"))
	}
	if q.Range != "" && q.Start != "" {
		return fail(fmt.Errorf("read request: got both range and start, want one"))
	}
	if end, err = ParseTime(q.End, now); err != nil {
		return fail(err)
	}
	if q.Start != "" {
		if start, err = ParseTime(q.Start, now); err != nil {
			return fail(err)
		}
	} else {
		d, err := parseDuration(q.Range)
		if err != nil {
			return fail(fmt.Errorf("read range: %w", err))
		}
		start = end.Add(-d)
	}
	if !start.Before(end) {
		return fail(fmt.Errorf("read request: start %s is not before end %s", start.Format(time.RFC3339), end.Format(time.RFC3339)))
	}
	if q.Step == "" {
		return start, end, fitStep(end.Sub(start), o.Width), nil
	}
	if step, err = parseDuration(q.Step); err != nil || step <= 0 {
		return fail(fmt.Errorf("read step: got %q, want a duration such as 30s", q.Step))
	}
	return start, end, step, nil
}

// fitStep returns a round step that gives about two points a column.
func fitStep(span time.Duration, width int) time.Duration {
	want := span / time.Duration(2*max(width, 40))
	for _, s := range []time.Duration{
		time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute,
		15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour,
	} {
		if s >= want {
			return s
		}
	}
	return want.Round(24*time.Hour) + 24*time.Hour
}

// ParseTime reads a time as people write it: empty or "now", a duration before
// now as "-15m", RFC 3339, or unix seconds.
func ParseTime(s string, now time.Time) (time.Time, error) {
	if s == "" || s == "now" {
		return now, nil
	}
	if ago, ok := strings.CutPrefix(s, "-"); ok {
		if d, err := model.ParseDuration(ago); err == nil {
			return now.Add(-time.Duration(d)), nil
		}
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && math.Abs(f) < 1e12 {
		return time.UnixMilli(int64(math.Round(f * 1000))).UTC(), nil
	}
	return time.Time{}, fmt.Errorf("read time: got %q, want now, -15m, RFC 3339 or unix seconds", s)
}

// parseDuration takes Prometheus's durations and seconds.
func parseDuration(s string) (time.Duration, error) {
	if d, err := model.ParseDuration(s); err == nil {
		return time.Duration(d), nil
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && math.Abs(f) < 1e9 {
		return time.Duration(f * float64(time.Second)), nil
	}
	return 0, fmt.Errorf("got %q, want a duration such as 30s or 1h", s)
}

// TerminalWidth returns the columns of the terminal that f is, or 80.
func TerminalWidth(f *os.File) int {
	if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
		return width
	}
	if width, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && width > 0 {
		return width
	}
	return 80
}
