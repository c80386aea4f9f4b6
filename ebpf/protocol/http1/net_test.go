package http1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/protocol"
)

// exchangeOf makes a random request and its response with net/http's writers,
// and what the parser is to say of them.
func exchangeOf(t *testing.T, rng *rand.Rand, last bool) (request, response []byte, want string) {
	t.Helper()
	methods := []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PURGE"}
	method := methods[rng.IntN(len(methods))]
	body := bytes.Repeat([]byte("GET / HTTP/1.1\r\n0\r\n\r\n")[:1+rng.IntN(20)], rng.IntN(400))
	path := fmt.Sprintf("/p/%d", rng.IntN(1000))
	query := rng.IntN(900)
	if method == "PURGE" {
		query /= 2 // a method that is not known is believed if the line ends as it must
	}
	req := httptest.NewRequest(method, "http://host"+path+"?q="+strings.Repeat("x", query), nil)
	req.Header.Set("Cookie", strings.Repeat("c", rng.IntN(1500)))
	requestBytes := 0
	if method != "GET" && method != "HEAD" && rng.IntN(2) == 0 {
		requestBytes = len(body)
		req.Body = io.NopCloser(bytes.NewReader(body))
		if req.ContentLength = int64(len(body)); rng.IntN(2) == 0 || len(body) == 0 {
			req.ContentLength = -1 // chunked
		}
	}
	var b bytes.Buffer
	require.NoError(t, req.Write(&b))
	request = bytes.Clone(b.Bytes())

	statuses := []int{200, 201, 204, 304, 302, 404, 500, 503}
	resp := &http.Response{
		StatusCode: statuses[rng.IntN(len(statuses))], ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: http.Header{"X": []string{strings.Repeat("h", rng.IntN(900))}},
	}
	b.Reset()
	if rng.IntN(4) == 0 {
		b.WriteString("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
	}
	responseBytes := 0
	bodyless := method == "HEAD" || resp.StatusCode == 204 || resp.StatusCode == 304
	if !bodyless {
		responseBytes = len(body)
		resp.Body = io.NopCloser(bytes.NewReader(body))
		switch kind := rng.IntN(3); {
		case kind == 0:
			resp.ContentLength = int64(len(body))
		case kind == 1 && last:
			resp.ContentLength, resp.Close = -1, true
		default:
			resp.ContentLength, resp.TransferEncoding = -1, []string{"chunked"}
		}
		if len(body) == 0 && resp.ContentLength == 0 {
			resp.Body = http.NoBody
		}
	}
	require.NoError(t, resp.Write(&b))
	if method == "PURGE" {
		method = otherMethod
	}
	return request, b.Bytes(), fmt.Sprintf("%s %s %d %d/%d", method, path, resp.StatusCode, requestBytes, responseBytes)
}

// split cuts b into random pieces.
func split(rng *rand.Rand, b []byte) [][]byte {
	var parts [][]byte
	for len(b) > 0 {
		n := 1 + rng.IntN(len(b))
		if rng.IntN(3) == 0 {
			n = min(n, 1+rng.IntN(9))
		}
		parts = append(parts, b[:n])
		b = b[n:]
	}
	return parts
}

// What net/http writes, however it is cut up, is what the parser tells.
func TestAgainstNetHTTP(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		p := New()
		var got, want []string
		done := func(r *protocol.Request) {
			got = append(got, fmt.Sprintf("%s %s %s %d/%d", r.Operation, r.Target, r.Status, r.RequestBytes, r.ResponseBytes))
		}
		asked, answered := protocol.Received, protocol.Sent
		if seed%2 == 1 {
			asked, answered = protocol.Sent, protocol.Received
		}
		now := int64(1)
		send := func(d protocol.Direction, b []byte) {
			for _, part := range split(rng, b) {
				now += 10
				cut := rng.IntN(len(part) + 1)
				p.Take(&protocol.Piece{Direction: d, Data: part[:cut], Tail: part[cut:], AtNanos: now, ReadyNanos: now - 5}, done)
			}
		}
		const batches = 12
		for i := range batches {
			var requests, responses []byte
			for j, n := 0, 1+rng.IntN(4); j < n; j++ {
				a, b, w := exchangeOf(t, rng, i == batches-1 && j == n-1)
				checkReadable(t, a, b)
				requests, responses, want = append(requests, a...), append(responses, b...), append(want, w)
			}
			send(asked, requests)
			send(answered, responses)
		}
		p.Close(now+10, done)
		require.Equal(t, want, got, "seed %d", seed)
		require.Zero(t, p.Lost(), "seed %d", seed)
	}
}

// checkReadable makes sure that net/http reads the conversation as it is meant.
func checkReadable(t *testing.T, request, response []byte) {
	t.Helper()
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(request)))
	require.NoError(t, err)
	r := bufio.NewReader(bytes.NewReader(response))
	resp, err := http.ReadResponse(r, req)
	for err == nil && resp.StatusCode == 103 {
		resp, err = http.ReadResponse(r, req)
	}
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
}
