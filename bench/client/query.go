package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Point is one sample.
type Point struct {
	Millis int64
	Value  float64
}

// Series is one series of an answer.
type Series struct {
	Labels map[string]string
	Points []Point
}

// Instant evaluates query at the time at; a matrix selector gives raw samples.
func Instant(ctx context.Context, c *http.Client, base, query string, atMillis int64) ([]Series, error) {
	return ask(ctx, c, base+"/api/v1/query?"+InstantParams(query, atMillis))
}

// InstantParams encodes an instant query. It also asks VictoriaMetrics not to
// hide the newest samples and not to answer from its cache of results; others
// ignore that.
func InstantParams(query string, atMillis int64) string {
	return url.Values{"query": {query}, "time": {seconds(atMillis)}, "nocache": {"1"}}.Encode()
}

// Range evaluates query at every step from start to end.
func Range(ctx context.Context, c *http.Client, base, query string, startMillis, endMillis int64, step time.Duration) ([]Series, error) {
	return ask(ctx, c, base+"/api/v1/query_range?"+RangeParams(query, startMillis, endMillis, step))
}

// RangeParams encodes a range query, see InstantParams.
func RangeParams(query string, startMillis, endMillis int64, step time.Duration) string {
	return url.Values{
		"query": {query}, "start": {seconds(startMillis)}, "end": {seconds(endMillis)},
		"step": {seconds(step.Milliseconds())}, "nocache": {"1"},
	}.Encode()
}

func seconds(millis int64) string { return strconv.FormatFloat(float64(millis)/1000, 'f', 3, 64) }

// answer is the envelope of the query API.
type answer struct {
	Status string `json:"status"`
	Error  string `json:"error"`
	Data   struct {
		ResultType string          `json:"resultType"`
		Result     json.RawMessage `json:"result"`
	} `json:"data"`
}

// pair is a [seconds, "value"] of an answer.
type pair Point

func (p *pair) UnmarshalJSON(b []byte) error {
	comma := -1
	for i, x := range b {
		if x == ',' {
			comma = i
			break
		}
	}
	if len(b) < 6 || b[0] != '[' || comma < 0 {
		return fmt.Errorf("decode sample %.40s: want [seconds, \"value\"]", b)
	}
	ts, err := strconv.ParseFloat(string(b[1:comma]), 64)
	if err != nil {
		return fmt.Errorf("decode sample time: %w", err)
	}
	text := b[comma+1 : len(b)-1]
	for len(text) > 0 && (text[0] == ' ' || text[0] == '"') {
		text = text[1:]
	}
	for len(text) > 0 && (text[len(text)-1] == ' ' || text[len(text)-1] == '"') {
		text = text[:len(text)-1]
	}
	if p.Value, err = strconv.ParseFloat(string(text), 64); err != nil {
		return fmt.Errorf("decode sample value: %w", err)
	}
	p.Millis = int64(math.Round(ts * 1000))
	return nil
}

func ask(ctx context.Context, c *http.Client, address string) ([]Series, error) {
	body, err := Fetch(ctx, c, address)
	if err != nil {
		return nil, err
	}
	series, err := decodeMatrix(body)
	if !errors.Is(err, errShape) {
		return series, err
	}
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, fmt.Errorf("decode answer: %w", err)
	}
	if a.Status != "success" {
		return nil, fmt.Errorf("query answered %s: %s", a.Status, a.Error)
	}
	if a.Data.ResultType == "scalar" {
		var p pair
		if err := json.Unmarshal(a.Data.Result, &p); err != nil {
			return nil, err
		}
		return []Series{{Points: []Point{Point(p)}}}, nil
	}
	var result []struct {
		Metric map[string]string `json:"metric"`
		Value  *pair             `json:"value"`
		Values []pair            `json:"values"`
	}
	if err := json.Unmarshal(a.Data.Result, &result); err != nil {
		return nil, fmt.Errorf("decode result: %w", err)
	}
	out := make([]Series, len(result))
	for i, r := range result {
		out[i].Labels = r.Metric
		if r.Value != nil {
			out[i].Points = []Point{Point(*r.Value)}
		}
		for _, v := range r.Values {
			out[i].Points = append(out[i].Points, Point(v))
		}
	}
	return out, nil
}

// partialHeader marks answers of Vedette that leave something out.
const partialHeader = "X-Vedette-Partial"

// Fetch gets an address and returns the body of a 200. An answer that says that
// it is not whole is an error.
func Fetch(ctx context.Context, c *http.Client, address string) ([]byte, error) {
	return fetch(ctx, c, address, "")
}

func fetch(ctx context.Context, c *http.Client, address, accept string) (_ []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("make query request: %w", err)
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		return nil, &StatusError{Status: resp.StatusCode, Message: fmt.Sprintf("%.500s", b)}
	}
	if why := resp.Header.Get(partialHeader); err == nil && why != "" {
		return nil, fmt.Errorf("answer is not whole: %s", why)
	}
	return b, err
}
