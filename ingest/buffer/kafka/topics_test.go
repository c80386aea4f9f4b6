package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/createtopics"
	"github.com/stretchr/testify/require"
)

// creating answers requests for topics, as a cluster would, with what code says of the nth.
type creating struct {
	code    func(request int, topic string) kafkago.Error
	created []string
	n       int
}

func (c *creating) RoundTrip(_ context.Context, _ net.Addr, r kafkago.Request) (kafkago.Response, error) {
	request, ok := r.(*createtopics.Request)
	if !ok {
		return nil, fmt.Errorf("got a %T", r)
	}
	resp := &createtopics.Response{}
	for _, t := range request.Topics {
		code := c.code(c.n, t.Name)
		if code == 0 {
			c.created = append(c.created, t.Name)
		}
		resp.Topics = append(resp.Topics, createtopics.ResponseTopic{Name: t.Name, ErrorCode: int16(code)})
	}
	c.n++
	return resp, nil
}

// A cluster whose brokers are still coming lacks them for a moment; one that has not so many, and one that
// refuses, end the start with the reason.
func TestCreateTopics(t *testing.T) {
	tests := map[string]struct {
		code  func(request int, topic string) kafkago.Error
		want  error
		after time.Duration // at least
		least int           // requests
	}{
		"brokers come": {code: func(n int, topic string) kafkago.Error {
			if n < 3 && topic == "b" {
				return kafkago.InvalidReplicationFactor
			}
			return 0
		}, least: 4},
		"controller comes": {code: func(n int, _ string) kafkago.Error {
			if n < 2 {
				return kafkago.NotController
			}
			return 0
		}, least: 3},
		"too few brokers": {
			code: func(int, string) kafkago.Error { return kafkago.InvalidReplicationFactor },
			want: kafkago.InvalidReplicationFactor, after: brokersWait, least: 10,
		},
		"denied": {code: func(_ int, topic string) kafkago.Error {
			if topic == "b" {
				return kafkago.TopicAuthorizationFailed
			}
			return kafkago.InvalidReplicationFactor
		}, want: kafkago.TopicAuthorizationFailed, least: 1},
		"there already": {code: func(int, string) kafkago.Error { return kafkago.TopicAlreadyExists }, least: 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &creating{code: tt.code}
				b := &Buffer{cfg: DefaultConfig(), logger: slog.New(slog.DiscardHandler)}
				begin := time.Now()
				err := b.createTopics(t.Context(), &kafkago.Client{Addr: kafkago.TCP(anyBroker), Transport: c}, []string{"a", "b", "c"})
				if tt.want == nil {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, tt.want)
				}
				took := time.Since(begin) // of the bubble's clock
				require.GreaterOrEqual(t, took, tt.after)
				require.Less(t, took, tt.after+5*time.Second)
				require.GreaterOrEqual(t, c.n, tt.least)
				if name == "brokers come" {
					require.Equal(t, []string{"a", "c", "b"}, c.created, "each once")
				}
			})
		})
	}
}
