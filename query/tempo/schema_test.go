package tempo_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// schema is what Tempo's clients know of its messages: a message a line, its
// fields as type, name and number; types of several are repeated.
const schema = `
Trace                     ResourceSpans* resourceSpans 1
TraceByIDMetrics          uint64 inspectedBytes 1
TraceByIDResponse         Trace trace 1; TraceByIDMetrics metrics 2; PartialStatus status 3; string message 4
SearchResponse            TraceSearchMetadata* traces 1; SearchMetrics metrics 2
TraceSearchMetadata       string traceID 1; string rootServiceName 2; string rootTraceName 3; uint64 startTimeUnixNano 4; uint32 durationMs 5; SpanSet spanSet 6; SpanSet* spanSets 7; ServiceStatsEntry* serviceStats 8
ServiceStatsEntry         string key 1; ServiceStats value 2
ServiceStats              uint32 spanCount 1; uint32 errorCount 2
SpanSet                   Span* spans 1; uint32 matched 2; KeyValue* attributes 3
Span                      string spanID 1; string name 2; uint64 startTimeUnixNano 3; uint64 durationNanos 4; KeyValue* attributes 5
SearchMetrics             uint32 inspectedTraces 1; uint64 inspectedBytes 2; uint32 totalBlocks 3; uint32 completedJobs 4; uint32 totalJobs 5; uint64 totalBlockBytes 6; uint64 inspectedSpans 7
MetadataMetrics           uint64 inspectedBytes 1; uint32 totalJobs 2; uint32 completedJobs 3; uint32 totalBlocks 4
SearchTagsResponse        string* tagNames 1; MetadataMetrics metrics 2
SearchTagsV2Scope         string name 1; string* tags 2
SearchTagsV2Response      SearchTagsV2Scope* scopes 1; MetadataMetrics metrics 2
SearchTagValuesResponse   string* tagValues 1; MetadataMetrics metrics 2
TagValue                  string type 1; string value 2
SearchTagValuesV2Response TagValue* tagValues 1; MetadataMetrics metrics 2
Sample                    double value 1; int64 timestampMs 2
Exemplar                  KeyValue* labels 1; double value 2; int64 timestampMs 3
TimeSeries                KeyValue* labels 1; Sample* samples 2; string promLabels 3; Exemplar* exemplars 4
QueryRangeResponse        TimeSeries* series 1; SearchMetrics metrics 2; PartialStatus status 3; string message 4
InstantSeries             KeyValue* labels 1; double value 2; string promLabels 3
QueryInstantResponse      InstantSeries* series 1; SearchMetrics metrics 2; PartialStatus status 3; string message 4
`

var scalars = map[string]descriptorpb.FieldDescriptorProto_Type{
	"string": descriptorpb.FieldDescriptorProto_TYPE_STRING, "double": descriptorpb.FieldDescriptorProto_TYPE_DOUBLE,
	"uint32": descriptorpb.FieldDescriptorProto_TYPE_UINT32, "uint64": descriptorpb.FieldDescriptorProto_TYPE_UINT64,
	"int64": descriptorpb.FieldDescriptorProto_TYPE_INT64,
}

// messages compiles the schema.
func messages(t *testing.T) protoreflect.MessageDescriptors {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String("tempo_test.proto"), Package: proto.String("tempotest"), Syntax: proto.String("proto3"),
		Dependency: []string{
			(&commonpb.KeyValue{}).ProtoReflect().Descriptor().ParentFile().Path(),
			(&tracepb.ResourceSpans{}).ProtoReflect().Descriptor().ParentFile().Path(),
		},
		EnumType: []*descriptorpb.EnumDescriptorProto{{Name: proto.String("PartialStatus"), Value: []*descriptorpb.EnumValueDescriptorProto{
			{Name: proto.String("COMPLETE"), Number: proto.Int32(0)}, {Name: proto.String("PARTIAL"), Number: proto.Int32(1)},
		}}},
	}
	for _, line := range strings.Split(strings.TrimSpace(schema), "\n") {
		name, fields, _ := strings.Cut(line, " ")
		m := &descriptorpb.DescriptorProto{Name: proto.String(name)}
		for _, field := range strings.Split(fields, ";") {
			part := strings.Fields(field)
			require.Len(t, part, 3, "%s", line)
			f := &descriptorpb.FieldDescriptorProto{
				Name: proto.String(part[1]), JsonName: proto.String(part[1]), Number: proto.Int32(int32(part[2][0] - '0')),
				Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			}
			typ, repeated := strings.CutSuffix(part[0], "*")
			if repeated {
				f.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
			}
			switch scalar, ok := scalars[typ]; {
			case ok:
				f.Type = scalar.Enum()
			case typ == "PartialStatus":
				f.Type, f.TypeName = descriptorpb.FieldDescriptorProto_TYPE_ENUM.Enum(), proto.String(".tempotest."+typ)
			case typ == "KeyValue":
				f.Type, f.TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), proto.String(".opentelemetry.proto.common.v1.KeyValue")
			case typ == "ResourceSpans":
				f.Type, f.TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), proto.String(".opentelemetry.proto.trace.v1.ResourceSpans")
			case typ == "ServiceStatsEntry":
				f.Type, f.TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), proto.String(".tempotest.TraceSearchMetadata.ServiceStatsEntry")
			default:
				f.Type, f.TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), proto.String(".tempotest."+typ)
			}
			m.Field = append(m.Field, f)
		}
		if name == "ServiceStatsEntry" { // a map's entries belong to the message with the map
			m.Options = &descriptorpb.MessageOptions{MapEntry: proto.Bool(true)}
			last := file.MessageType[len(file.MessageType)-1]
			last.NestedType = append(last.NestedType, m)
			continue
		}
		file.MessageType = append(file.MessageType, m)
	}
	fd, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	require.NoError(t, err)
	return fd.Messages()
}

// sameMessage checks that an answer in JSON and one in protobuf are the same
// message, and know no other field.
func sameMessage(t *testing.T, name string, inJSON, inProto []byte) {
	t.Helper()
	d := messages(t).ByName(protoreflect.Name(name))
	a, b := dynamicpb.NewMessage(d), dynamicpb.NewMessage(d)
	// A status that says nothing is there in JSON alone.
	inJSON = bytes.ReplaceAll(inJSON, []byte(`,"status":{}`), nil)
	require.NoError(t, protojson.Unmarshal(inJSON, a), "%s", inJSON)
	require.NoError(t, proto.Unmarshal(inProto, b))
	require.True(t, proto.Equal(a, b), "JSON:\n%s\nprotobuf:\n%s", protojson.Format(a), protojson.Format(b))
	require.Empty(t, unknown(b.ProtoReflect()))
}

// unknown returns the bytes of fields that the schema does not have.
func unknown(m protoreflect.Message) []byte {
	out := append([]byte(nil), m.GetUnknown()...)
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil || f.IsMap():
		case f.IsList():
			for i := range v.List().Len() {
				out = append(out, unknown(v.List().Get(i).Message())...)
			}
		default:
			out = append(out, unknown(v.Message())...)
		}
		return true
	})
	return out
}
