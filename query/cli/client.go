package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/vedette-io/vedette/internal/tenant"
)

// maxAnswerBytes bounds what is taken from a server.
const maxAnswerBytes = 1 << 30

// Client asks one server. It is safe for concurrent use.
type Client struct {
	base   *url.URL
	tenant string
	http   *http.Client
}

// NewClient returns a client of the server at base, which may be a bare
// host:port. An empty id leaves the tenant to the server, a nil client is
// http.DefaultClient.
func NewClient(base, id string, client *http.Client) (*Client, error) {
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("parse server address: %w", err)
	}
	if u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("parse server address %q: want http://host:port", base)
	}
	if client == nil {
		client = http.DefaultClient
	}
	return &Client{base: u, tenant: id, http: client}, nil
}

// APIError is an error that the server has answered with.
type APIError struct {
	Code    int    // HTTP status
	Type    string // as "bad_data"; empty if the answer was not of the API
	Message string
}

func (e *APIError) Error() string {
	if e.Type == "" {
		return fmt.Sprintf("server answered %d: %s", e.Code, e.Message)
	}
	return fmt.Sprintf("%s: %s", e.Type, e.Message)
}

// Instant evaluates expr at one time; the zero time is the server's now.
func (c *Client) Instant(ctx context.Context, expr string, at time.Time) (*Result, error) {
	form := url.Values{"query": {expr}}
	if !at.IsZero() {
		form.Set("time", formatSeconds(at))
	}
	return c.ask(ctx, "/api/v1/query", form)
}

// Range evaluates expr at every step from start to end.
func (c *Client) Range(ctx context.Context, expr string, start, end time.Time, step time.Duration) (*Result, error) {
	r, err := c.ask(ctx, "/api/v1/query_range", url.Values{
		"query": {expr},
		"start": {formatSeconds(start)},
		"end":   {formatSeconds(end)},
		"step":  {strconv.FormatFloat(step.Seconds(), 'f', -1, 64)},
	})
	if err == nil {
		r.Start, r.End, r.Step = start, end, step
	}
	return r, err
}

func formatSeconds(t time.Time) string {
	return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64)
}

func (c *Client) ask(ctx context.Context, path string, form url.Values) (*Result, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.JoinPath(path).String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	code, _, body, err := c.do(req)
	if err != nil {
		return nil, err
	}
	return decodeAnswer(code, body)
}

// get returns the body of an answer in a form. Any status but 200 is an
// APIError.
func (c *Client) get(ctx context.Context, path string, query url.Values, accept string) ([]byte, error) {
	target := c.base.JoinPath(path)
	target.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Accept", accept)
	code, kind, body, err := c.do(req)
	if err != nil {
		return nil, err
	}
	if code != http.StatusOK {
		return nil, &APIError{Code: code, Message: cleanLines(excerpt(body))}
	}
	if !strings.HasPrefix(kind, accept) {
		return nil, fmt.Errorf("read answer of %s: it is of type %q, want %s: is it a Vedette server?", c.base.Redacted(), kind, accept)
	}
	return body, nil
}

// do sends a request and returns the status, type and body of the answer.
func (c *Client) do(req *http.Request) (code int, kind string, body []byte, err error) {
	if c.tenant != "" {
		req.Header.Set(tenant.Header, c.tenant)
	}
	res, err := c.http.Do(req)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) { // it repeats the address
			err = failed.Err
		}
		return 0, "", nil, fmt.Errorf("ask %s: %w", c.base.Redacted(), err)
	}
	defer res.Body.Close()
	if body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes)); err != nil {
		return 0, "", nil, fmt.Errorf("read answer of %s: %w", c.base.Redacted(), err)
	}
	return res.StatusCode, res.Header.Get("Content-Type"), body, nil
}

// excerpt returns the beginning of an answer that is no answer.
func excerpt(body []byte) string {
	return strings.TrimSpace(string(body[:min(len(body), 2000)]))
}

// decodeAnswer decodes the body of an answer with an HTTP status.
func decodeAnswer(code int, body []byte) (*Result, error) {
	var a struct {
		Status    string          `json:"status"`
		ErrorType string          `json:"errorType"`
		Error     string          `json:"error"`
		Data      json.RawMessage `json:"data"`
		Warnings  []string        `json:"warnings"`
		Infos     []string        `json:"infos"`
	}
	if err := json.Unmarshal(body, &a); err != nil || a.Status == "" {
		text := strings.TrimSpace(string(body[:min(len(body), 300)]))
		return nil, &APIError{Code: code, Message: clean(text)}
	}
	if a.Status != "success" {
		return nil, &APIError{Code: code, Type: clean(a.ErrorType), Message: clean(a.Error)}
	}
	r := &Result{Warnings: a.Warnings, Infos: a.Infos, Raw: a.Data}
	if err := r.decode(a.Data); err != nil {
		return nil, fmt.Errorf("decode answer: %w", err)
	}
	return r, nil
}
