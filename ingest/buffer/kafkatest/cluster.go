package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

// Cluster is a cluster of several nodes, each of them a broker and a controller.
// Topics have as many replicas as it has nodes, of which all but one have to be in sync
// for a write.
type Cluster struct {
	Nodes []*Broker
}

// StartCluster starts a cluster of n nodes that ends with the test, or skips the test if
// Missing says why.
func StartCluster(t testing.TB, n int, opts Options) *Cluster {
	t.Helper()
	if why := Missing(); why != "" {
		t.Skip(why)
	}
	c, err := RunCluster(t.TempDir(), n, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Kill(); err != nil {
			t.Error(err)
		}
	})
	c.AwaitInSync(t)
	return c
}

// RunCluster starts a cluster with its data in dir. It has no listeners with security.
// The caller kills it.
func RunCluster(dir string, n int, opts Options) (*Cluster, error) {
	if opts.Secure {
		return nil, errors.New("run cluster: secure is for a single broker")
	}
	replicas := strconv.Itoa(n)
	properties := map[string]string{
		"default.replication.factor":       replicas,
		"min.insync.replicas":              strconv.Itoa(max(n-1, 1)),
		"offsets.topic.replication.factor": replicas,
		// So long nobody takes the place of a node that has died.
		"broker.session.timeout.ms": "2000",
		// A follower that has died keeps writes waiting for as long.
		"replica.lag.time.max.ms":               "3000",
		"replica.fetch.wait.max.ms":             "100",
		"controller.quorum.fetch.timeout.ms":    "1000",
		"controller.quorum.election.timeout.ms": "500",
		// Leaders do not move but for what a test does.
		"auto.leader.rebalance.enable": "false",
	}
	maps.Copy(properties, opts.Properties)
	opts.Properties = properties
	c := &Cluster{}
	var voters []string
	for i := range n {
		b := newBroker(filepath.Join(dir, strconv.Itoa(i+1)), i+1, opts)
		if err := os.Mkdir(b.dir, 0o755); err != nil {
			return nil, fmt.Errorf("run cluster: %w", err)
		}
		var err error
		if b.ports, err = freePorts(); err != nil {
			return nil, err
		}
		voters = append(voters, b.voter())
		c.Nodes = append(c.Nodes, b)
	}
	id := clusterID()
	err := c.each(func(b *Broker) error {
		b.voters = strings.Join(voters, ",")
		if err := b.format(id); err != nil {
			return err
		}
		return b.Restart()
	})
	if err != nil {
		return nil, errors.Join(err, c.Kill())
	}
	return c, nil
}

// each does something with all nodes at once: one alone has nobody to elect it.
func (c *Cluster) each(do func(*Broker) error) error {
	errs := make([]error, len(c.Nodes))
	var wg sync.WaitGroup
	for i, b := range c.Nodes {
		wg.Go(func() { errs[i] = do(b) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Kill ends all nodes with SIGKILL.
func (c *Cluster) Kill() error { return c.each((*Broker).Kill) }

// Addrs returns host:port of every node.
func (c *Cluster) Addrs() (addrs []string) {
	for _, b := range c.Nodes {
		addrs = append(addrs, b.Addr())
	}
	return addrs
}

// Others returns the nodes but for some.
func (c *Cluster) Others(not ...*Broker) []*Broker {
	return slices.DeleteFunc(slices.Clone(c.Nodes), func(b *Broker) bool { return slices.Contains(not, b) })
}

// Leader returns the node that leads a partition, once there is one that runs and is none of
// those.
func (c *Cluster) Leader(t testing.TB, topic string, partition int, not ...*Broker) (leader *Broker) {
	t.Helper()
	c.await(t, "a leader of "+topic, c.Others(not...), func(meta *kafkago.MetadataResponse) bool {
		for _, p := range meta.Topics[0].Partitions {
			if p.ID == partition && p.Error == nil && p.Leader.ID >= 1 && p.Leader.ID <= len(c.Nodes) {
				leader = c.Nodes[p.Leader.ID-1]
				return leader.Pid() != 0 && !slices.Contains(not, leader)
			}
		}
		return false
	}, topic)
	return leader
}

// AwaitInSync waits until all nodes are in the cluster and every partition of the topics has all
// of its replicas in sync.
func (c *Cluster) AwaitInSync(t testing.TB, topics ...string) {
	t.Helper()
	c.await(t, fmt.Sprintf("replicas of %v in sync", topics), c.Nodes, func(meta *kafkago.MetadataResponse) bool {
		for i := range meta.Topics {
			for _, p := range meta.Topics[i].Partitions {
				if p.Error != nil || len(p.Isr) < len(p.Replicas) {
					return false
				}
			}
		}
		return len(meta.Brokers) == len(c.Nodes)
	}, topics...)
}

// await asks nodes that run for metadata until they are what is wanted.
func (c *Cluster) await(t testing.TB, what string, nodes []*Broker, wanted func(*kafkago.MetadataResponse) bool, topics ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last any
	for {
		for _, b := range nodes {
			if b.Pid() == 0 {
				continue
			}
			meta, err := metadata(ctx, b.Addr(), topics)
			if err == nil && wanted(meta) {
				return
			}
			last = fmt.Sprintf("%+v, %v", meta, err)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("await %s: got %.2000s", what, last)
		case <-tick.C:
		}
	}
}

// metadata asks a broker anew, not the memory of a connection pool.
func metadata(ctx context.Context, addr string, topics []string) (*kafkago.MetadataResponse, error) {
	transport := &kafkago.Transport{MetadataTopics: topics}
	defer transport.CloseIdleConnections()
	client := &kafkago.Client{Addr: kafkago.TCP(addr), Timeout: 2 * time.Second, Transport: transport}
	meta, err := client.Metadata(ctx, &kafkago.MetadataRequest{Topics: topics})
	if err == nil && len(meta.Topics) < len(topics) {
		err = fmt.Errorf("got metadata of %d topics, want %d", len(meta.Topics), len(topics))
	}
	return meta, err
}
