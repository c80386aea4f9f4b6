package pushgateway

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/wire"
)

// families reads the body of a push.
func (g *Gateway) families(w http.ResponseWriter, r *http.Request) (map[string]*dto.MetricFamily, error) {
	raw, err := g.entry.ReadBody(w, r)
	if err != nil {
		return nil, err
	}
	defer raw.Release()
	// Few bodies are unpacked at a time, since a parsed one is several times as
	// large as its text.
	if err := g.parsers.Acquire(r.Context(), 1); err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	defer g.parsers.Release(1)
	body, err := unpack(raw.Bytes, r.Header.Get("Content-Encoding"), g.cfg.MaxPushBytes)
	if err != nil {
		return nil, err
	}
	if isProtobuf(r.Header.Get("Content-Type")) {
		return g.parseProtobuf(body)
	}
	return g.parseText(body)
}

// unpack undoes a Content-Encoding.
func unpack(body []byte, encoding string, limit int) ([]byte, error) {
	var in io.Reader
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
		if len(body) > limit {
			return nil, &wire.SizeError{What: "uncompressed body", Got: len(body), Limit: limit}
		}
		return body, nil
	case "gzip":
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, &RequestError{"gzip body: " + err.Error()}
		}
		in = z
	case "snappy":
		in = snappy.NewReader(bytes.NewReader(body))
	default:
		return nil, &door.MediaError{Header: "Content-Encoding", Got: encoding, Want: "gzip, snappy or identity"}
	}
	plain, err := io.ReadAll(io.LimitReader(in, int64(limit)+1))
	if err != nil {
		return nil, &RequestError{strings.ToLower(encoding) + " body: " + err.Error()}
	}
	if len(plain) > limit {
		return nil, &wire.SizeError{What: "uncompressed body", Got: len(plain), Limit: limit}
	}
	return plain, nil
}

// isProtobuf reports whether a body is delimited protobuf; it is text otherwise,
// whatever its type says.
func isProtobuf(contentType string) bool {
	media, params, err := mime.ParseMediaType(contentType)
	return err == nil && media == "application/vnd.google.protobuf" &&
		params["encoding"] == "delimited" && params["proto"] == "io.prometheus.client.MetricFamily"
}

func (g *Gateway) parseText(body []byte) (map[string]*dto.MetricFamily, error) {
	samples := 0
	for line := range bytes.Lines(body) {
		if line = bytes.TrimLeft(line, " \t"); len(line) > 1 && line[0] != '#' {
			samples++
		}
	}
	if samples > g.cfg.MaxSeriesPerGroup {
		return nil, g.tooManySeries(samples)
	}
	p := expfmt.NewTextParser(g.names.valid)
	byName, err := p.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		return nil, &RequestError{err.Error()}
	}
	return byName, nil
}

// parseProtobuf reads messages with their length in front. As in the original,
// the last family of a name counts.
func (g *Gateway) parseProtobuf(body []byte) (map[string]*dto.MetricFamily, error) {
	byName := map[string]*dto.MetricFamily{}
	samples := 0
	for at := 0; at < len(body); {
		msg, n := protowire.ConsumeBytes(body[at:])
		if n < 0 {
			return nil, &RequestError{fmt.Sprintf("protobuf body: byte %d: %v", at, protowire.ParseError(n))}
		}
		if samples += countMetrics(msg); samples > g.cfg.MaxSeriesPerGroup {
			return nil, g.tooManySeries(samples)
		}
		f := &dto.MetricFamily{}
		if err := proto.Unmarshal(msg, f); err != nil {
			return nil, &RequestError{fmt.Sprintf("protobuf body: message at byte %d: %v", at, err)}
		}
		byName[f.GetName()] = f
		at += n
	}
	return byName, nil
}

// countMetrics returns how many metrics an encoded family has, as far as it can
// be read.
func countMetrics(msg []byte) (n int) {
	const fieldMetric = 4
	for len(msg) > 0 {
		num, _, size := protowire.ConsumeField(msg)
		if size < 0 {
			return n
		}
		if num == fieldMetric {
			n++
		}
		msg = msg[size:]
	}
	return n
}

func (g *Gateway) tooManySeries(n int) error {
	return &LimitError{fmt.Sprintf("series of one group: got %d", n), g.cfg.MaxSeriesPerGroup}
}
