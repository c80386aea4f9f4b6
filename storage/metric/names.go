package metric

import (
	"strconv"
	"strings"

	promlabels "github.com/prometheus/prometheus/model/labels"

	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/storage/index"
)

// nameLabel is the label that holds the metric name.
const nameLabel = "__name__"

// nameOf returns the metric name in canonical label bytes.
func nameOf(canon []byte) string {
	for len(canon) > 0 {
		name, value, rest, err := labels.Next(canon)
		if err != nil {
			return ""
		}
		if string(name) == nameLabel {
			return string(value)
		}
		canon = rest
	}
	return ""
}

// formatCanonical writes canonical label bytes as PromQL does, cut to a length
// that suits an error message.
func formatCanonical(canon []byte) string {
	const most = 512
	var b strings.Builder
	b.WriteByte('{')
	for len(canon) > 0 && b.Len() < most {
		name, value, rest, err := labels.Next(canon)
		if err != nil {
			break
		}
		if b.Len() > 1 {
			b.WriteString(", ")
		}
		b.Write(name)
		b.WriteByte('=')
		b.WriteString(strconv.Quote(string(value[:min(len(value), 128)])))
		canon = rest
	}
	if len(canon) > 0 {
		b.WriteString(", …")
	}
	b.WriteByte('}')
	return b.String()
}

// labelsOf builds the labels of a series. One string holds all of them.
func labelsOf(x *index.Index, ref index.Ref, b *promlabels.ScratchBuilder) promlabels.Labels {
	b.Reset()
	x.EachLabel(ref, func(name, value []byte) { b.Add(string(name), string(value)) })
	return b.Labels()
}

// parseLabels builds labels from canonical bytes.
func parseLabels(canon string) promlabels.Labels {
	var b promlabels.ScratchBuilder
	rest := []byte(canon)
	for len(rest) > 0 {
		name, value, r, err := labels.Next(rest)
		if err != nil {
			break
		}
		b.Add(string(name), string(value))
		rest = r
	}
	return b.Labels()
}
