package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/vedette-io/vedette/ebpf/identity"
)

// Labels that containerd's clients put on containers.
const (
	labelNerdctl = "nerdctl/name"
	labelKind    = "io.cri-containerd.kind" // container or sandbox
)

// dockersNamespace is where Docker has its containers, of which it tells more than
// containerd knows.
const dockersNamespace = "moby"

// containerd asks containerd for the containers of all its namespaces, by two
// methods of its gRPC interface. The few fields that matter are read from the
// messages as they are.
type containerd struct{ socket string }

func newContainerd(hostRoot, socket string) *containerd {
	return &containerd{filepath.Join(hostRoot, socket)}
}

func (c *containerd) name() string { return "containerd" }

func (c *containerd) ask(ctx context.Context, q *question) (*catalog, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()                                                   // ends streams, too
	probe, err := new(net.Dialer).DialContext(ctx, "unix", c.socket) // gRPC does not say that nobody is there
	if err != nil {
		return nil, fmt.Errorf("connect to containerd: %w", err)
	}
	_ = probe.Close()
	conn, err := grpc.NewClient("unix://"+c.socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(plain{}), grpc.MaxCallRecvMsgSize(maxItem)))
	if err != nil {
		return nil, fmt.Errorf("connect to containerd: %w", err)
	}
	defer conn.Close()
	var request, answer []byte
	if err := conn.Invoke(ctx, "/containerd.services.namespaces.v1.Namespaces/List", &request, &answer); err != nil {
		return nil, fmt.Errorf("list namespaces at %s: %w", c.socket, err)
	}
	k := q.catalog()
	for field, n := range fieldsOf(answer) {
		if name := firstField(n); field == 1 && name != dockersNamespace {
			if err := c.list(ctx, conn, name, q, k); err != nil {
				return nil, fmt.Errorf("list containers of namespace %q at %s: %w", name, c.socket, err)
			}
		}
	}
	return k, nil
}

// list adds the containers of a namespace. They come one by one, for each has all
// of its specification with it.
func (c *containerd) list(ctx context.Context, conn *grpc.ClientConn, namespace string, q *question, k *catalog) error {
	ctx = metadata.AppendToOutgoingContext(ctx, "containerd-namespace", namespace)
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/containerd.services.containers.v1.Containers/ListStream")
	if err != nil {
		return err
	}
	if err := errors.Join(stream.SendMsg(new([]byte)), stream.CloseSend()); err != nil {
		return err
	}
	for n := 0; ; {
		var message []byte
		if err := stream.RecvMsg(&message); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		for field, v := range fieldsOf(message) {
			if field != 1 {
				continue
			}
			if n++; n > maxItems {
				return fmt.Errorf("got more than %d elements", maxItems)
			}
			id, m := decodeContainerd(v)
			q.add(k, id, m)
		}
	}
}

// firstField is the text of a message's first field.
func firstField(b []byte) (text string) {
	for field, v := range fieldsOf(b) {
		if field == 1 {
			text = string(v)
		}
	}
	return text
}

// decodeContainerd reads a containerd.services.containers.v1.Container: its id,
// labels and image are the fields 1 to 3.
func decodeContainerd(b []byte) (id string, m meta) {
	m.Labels = map[string]string{}
	for field, v := range fieldsOf(b) {
		switch field {
		case 1:
			id = string(v)
		case 2:
			var pair [3]string
			for i, text := range fieldsOf(v) {
				if i < 3 {
					pair[i] = string(text)
				}
			}
			m.Labels[pair[1]] = pair[2]
		case 3:
			m.Image = string(v)
		}
	}
	m.Name, m.Service = m.Labels[labelNerdctl], m.Labels[identity.LabelCompose]
	m.Container, m.Pod, m.Namespace = m.Labels[labelContainer], m.Labels[labelPod], m.Labels[labelNamespace]
	if m.Labels[labelKind] == "sandbox" {
		m.Container = ""
	}
	return id, m
}

// fieldsOf yields the fields of a message that hold bytes, up to the first that is
// none.
func fieldsOf(b []byte) iter.Seq2[protowire.Number, []byte] {
	return func(yield func(protowire.Number, []byte) bool) {
		for len(b) > 0 {
			field, kind, n := protowire.ConsumeTag(b)
			if n < 0 {
				return
			}
			size := protowire.ConsumeFieldValue(field, kind, b[n:])
			if size < 0 {
				return
			}
			if kind == protowire.BytesType {
				v, _ := protowire.ConsumeBytes(b[n : n+size])
				if !yield(field, v) {
					return
				}
			}
			b = b[n+size:]
		}
	}
}

// plain hands messages to gRPC as the bytes that they are.
type plain struct{}

func (plain) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (plain) Unmarshal(data []byte, v any) error { // data is a copy of its own
	*v.(*[]byte) = data
	return nil
}
func (plain) Name() string { return "proto" }
