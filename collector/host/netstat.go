package host

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
)

const netstatFields = `^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)|` +
	`TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)|` +
	`Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)|` +
	`Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$`

type netstat struct {
	families *names
	name     []byte
	keys     [][]byte
	values   [][]byte
}

func openNetstat(s *sources) func(*batch) error {
	wanted := regexp.MustCompile(netstatFields)
	n := &netstat{families: newNames(func(name string) *family {
		if !wanted.MatchString(name) {
			return nil
		}
		protocol, field, _ := bytes.Cut([]byte(name), []byte{'_'})
		return untyped("node_netstat_"+name, fmt.Sprintf("Statistic %s%s.", protocol, field))
	})}
	var r reader
	return func(b *batch) error {
		for _, file := range []string{"net/netstat", "net/snmp"} {
			data, err := r.read(s.proc(file))
			if err != nil {
				return err
			}
			if err := n.pairs(b, data); err != nil {
				return fmt.Errorf("parse %s: %w", file, err)
			}
		}
		if data, err := r.read(s.proc("net/snmp6")); err == nil { // absent without IPv6
			n.snmp6(b, data)
		}
		return nil
	}
}

// pairs reads lines of names that are each followed by a line of values.
func (n *netstat) pairs(b *batch, data []byte) error {
	var head []byte
	for line := range lines(data) {
		protocol, rest, ok := bytes.Cut(line, []byte{':'})
		if !ok {
			return fmt.Errorf("got %q, want a protocol and a colon", line)
		}
		if head == nil {
			head = protocol
			n.keys = fields(n.keys[:0], rest)
			continue
		}
		if n.values = fields(n.values[:0], rest); !bytes.Equal(head, protocol) || len(n.keys) != len(n.values) {
			return fmt.Errorf("got %d values of %q after %d names of %q", len(n.values), protocol, len(n.keys), head)
		}
		for i, key := range n.keys {
			n.add(b, protocol, key, n.values[i])
		}
		head = nil
	}
	if head != nil {
		return errors.New("the last line of values is missing")
	}
	return nil
}

// snmp6 reads lines of a name and a value, such as Ip6InReceives 12.
func (n *netstat) snmp6(b *batch, data []byte) {
	for line := range lines(data) {
		n.keys = fields(n.keys[:0], line)
		if len(n.keys) < 2 {
			continue
		}
		if six := bytes.IndexByte(n.keys[0], '6'); six >= 0 {
			n.add(b, n.keys[0][:six+1], n.keys[0][six+1:], n.keys[1])
		}
	}
}

func (n *netstat) add(b *batch, protocol, key, value []byte) {
	n.name = append(append(append(n.name[:0], protocol...), '_'), key...)
	if f := n.families.get(n.name); f != nil {
		if v, ok := parseNumber(value); ok {
			b.add(f, v)
		}
	}
}
