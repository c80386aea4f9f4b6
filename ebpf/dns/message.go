package dns

import (
	"strconv"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// types by number, those that are seen in practice.
var types = map[uint16]string{
	1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 13: "HINFO", 15: "MX", 16: "TXT", 24: "SIG", 25: "KEY", 28: "AAAA",
	29: "LOC", 33: "SRV", 35: "NAPTR", 37: "CERT", 39: "DNAME", 43: "DS", 44: "SSHFP", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY",
	50: "NSEC3", 51: "NSEC3PARAM", 52: "TLSA", 59: "CDS", 60: "CDNSKEY", 64: "SVCB", 65: "HTTPS", 99: "SPF",
	250: "TSIG", 251: "IXFR", 252: "AXFR", 255: "ANY", 256: "URI", 257: "CAA",
}

// codes are the answers' response codes; the header has four bits for them.
var codes = [16]string{
	"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE",
	"DSOTYPENI", "RCODE12", "RCODE13", "RCODE14", "RCODE15",
}

// typeName names a question's type. All others are one, for a sender may choose
// any of 65536.
func typeName(n uint16) string {
	if s, ok := types[n]; ok {
		return s
	}
	return "other"
}

// nameOf reads a name as it is sent: a length before each label, an empty one at
// the end. ok is false when it is none.
func nameOf(wire []byte) (name string, ok bool) {
	var b strings.Builder
	for {
		if len(wire) == 0 {
			return "", false
		}
		n := int(wire[0])
		wire = wire[1:]
		switch {
		case n == 0 && b.Len() == 0:
			return ".", true
		case n == 0:
			return b.String(), true
		case n > 63 || n > len(wire):
			return "", false
		case b.Len() > 0:
			b.WriteByte('.')
		}
		for _, c := range wire[:n] {
			switch {
			case c >= 'A' && c <= 'Z':
				b.WriteByte(c + 'a' - 'A')
			case c == '.' || c == '\\' || c == '"':
				b.WriteByte('\\')
				b.WriteByte(c)
			case c < ' ' || c > '~':
				s := strconv.Itoa(int(c))
				b.WriteString(`\` + strings.Repeat("0", 3-len(s)) + s)
			default:
				b.WriteByte(c)
			}
		}
		wire = wire[n:]
	}
}

// domainOf folds a name to what somebody has registered, one label below a public
// suffix: a.b.example.co.uk gives example.co.uk. Names of a cluster keep service
// and namespace; addresses that are looked up for their names are one.
func domainOf(name string) string {
	if strings.HasSuffix(name, ".in-addr.arpa") || strings.HasSuffix(name, ".ip6.arpa") {
		return name[strings.LastIndexByte(strings.TrimSuffix(name, ".arpa"), '.')+1:]
	}
	if labels := strings.Split(name, "."); len(labels) > 4 {
		// service.namespace.svc.cluster.local, and pods before it
		for i := len(labels) - 2; i >= 2; i-- {
			if labels[i] == "svc" {
				return strings.Join(labels[i-2:], ".")
			}
		}
	}
	domain, err := publicsuffix.EffectiveTLDPlusOne(name)
	if err != nil {
		return name // a suffix itself, or a single label
	}
	return domain
}
