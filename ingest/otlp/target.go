package otlp

import (
	"bytes"
	"errors"
	"slices"

	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

const (
	targetInfo = "target_info"

	// targetStep is the time between two samples of target_info where a resource's
	// points lie further apart: half of what a query looks back by default.
	targetStep = uint64(150_000_000_000)

	// maxTargetSamples is how many samples of target_info a resource gets at most,
	// the newest.
	maxTargetSamples = 1024
)

// Attributes that identify a resource.
const (
	serviceName      = "service.name"
	serviceNamespace = "service.namespace"
	serviceInstance  = "service.instance.id"
)

// sampleKey is a sample of a series.
type sampleKey struct {
	hash labels.Hash
	time int64
}

// fixLabels makes r.build.base, the labels that all points of the resource and
// scope at hand get. It is not needed for points that are known.
func (r *Request) fixLabels() error {
	u := &r.build
	if u.fixed {
		return nil
	}
	if err := r.fixResource(); err != nil {
		return err
	}
	u.fixed, u.fault = true, u.resFault
	u.base = append(u.base[:0], u.resBase...)
	if r.set.cfg.PromoteScopeMetadata {
		return r.fixScope()
	}
	return nil
}

// fixResource reads the resource's attributes and makes the labels of them.
func (r *Request) fixResource() error {
	u := &r.build
	if u.resFixed {
		return nil
	}
	u.resFixed, u.resFault = true, refusal{}
	if err := r.parseAttributes(r.res.spans, 1, &r.res.attrs); err != nil {
		return err
	}
	var job []byte
	if name, ok := r.res.get(serviceName); ok {
		job = name
		if space, ok := r.res.get(serviceNamespace); ok {
			n := len(u.resVals)
			u.resVals = append(append(append(u.resVals, space...), '/'), name...)
			job = u.resVals[n:]
		}
	}
	if len(job) > 0 {
		u.target = setFixed(u.target, jobLabel, job, true)
	}
	if instance, _ := r.res.get(serviceInstance); len(instance) > 0 {
		u.target = setFixed(u.target, instanceLabel, instance, true)
	}
	sortFixed(u.target)
	for _, a := range r.res.attrs {
		if !r.set.promotes(a.key) {
			continue
		}
		name, err := r.labelName(a.key)
		if err != nil {
			if bad, ok := err.(*nameError); ok {
				u.resFault = refusal{wire.ReasonEmptyLabelName, "resource: " + bad.detail}
				return nil
			}
			return err
		}
		u.resBase = setFixed(u.resBase, string(name), a.value, false)
	}
	for _, f := range u.target {
		u.resBase = setFixed(u.resBase, string(f.name), f.value, true)
	}
	sortFixed(u.resBase)
	return nil
}

// setFixed adds a label, or replaces the one of that name.
func setFixed(list []fixedLabel, name string, value []byte, overrides bool) []fixedLabel {
	for i := range list {
		if string(list[i].name) == name {
			list[i].value, list[i].overrides = value, overrides
			return list
		}
	}
	return append(list, fixedLabel{[]byte(name), value, overrides})
}

func sortFixed(list []fixedLabel) {
	slices.SortFunc(list, func(a, b fixedLabel) int { return bytes.Compare(a.name, b.name) })
}

// get returns the first attribute of that name.
func (s *resource) get(key string) ([]byte, bool) {
	for _, a := range s.attrs {
		if string(a.key) == key {
			return a.value, true
		}
	}
	return nil, false
}

// parseAttributes reads the KeyValue messages in the given field of a message
// that may come in pieces.
func (r *Request) parseAttributes(spans []signal.ByteRange, field int32, dst *[]attribute) error {
	for _, span := range spans {
		end := int(span.Off + span.Len)
		err := r.each(field, int(span.Off), end, "attributes", func(s, e int) error {
			key, val, err := r.keyValue(r.body[s:e], s)
			if err != nil {
				return err
			}
			text, err := r.text(val, s, &r.build.resVals)
			if err != nil {
				return err
			}
			if *dst, err = wire.Grow(&r.budget, *dst, 48); err != nil {
				return err
			}
			*dst = append(*dst, attribute{key, text})
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// fixScope adds the labels of the scope at hand to r.build.base, if it has a
// name.
func (r *Request) fixScope() error {
	const what = "scope"
	u := &r.build
	var name, version []byte
	for _, span := range r.scope.spans {
		end := int(span.Off + span.Len)
		for i := int(span.Off); i < end; {
			num, wt, s, e, err := r.field(r.body[:end], i, what)
			if err != nil {
				return err
			}
			if num <= 2 && wt != wire.Bytes {
				return r.wrongType(i, what, num, wt, wire.Bytes)
			}
			switch num {
			case 1:
				name = r.body[s:e]
			case 2:
				version = r.body[s:e]
			}
			i = e
		}
	}
	if len(name) == 0 {
		return nil
	}
	u.scopeAttrs = u.scopeAttrs[:0]
	if err := r.parseAttributes(r.scope.spans, 3, &u.scopeAttrs); err != nil {
		return err
	}
	var own []fixedLabel
	for _, a := range u.scopeAttrs {
		label, err := r.labelName(append([]byte("otel_scope_"), a.key...))
		if err != nil {
			return err
		}
		own = setFixed(own, string(label), a.value, true)
	}
	for _, f := range own {
		if len(f.value) > 0 {
			u.base = setFixed(u.base, string(f.name), f.value, true)
		}
	}
	u.base = setFixed(u.base, "otel_scope_name", name, true)
	u.base = setFixed(u.base, "otel_scope_version", version, true)
	u.base = setFixed(u.base, "otel_scope_schema_url", r.at(r.scope.schema), true)
	sortFixed(u.base)
	return nil
}

// derivedTargetInfo adds target_info for the accepted points of the resource at
// hand: a sample at the time of the oldest, the newest, and in steps between.
func (r *Request) derivedTargetInfo() error {
	if !r.res.hasPoint {
		return nil
	}
	row, ok, err := r.targetRow()
	if !ok || err != nil {
		return err
	}
	oldest, newest := int64(r.res.oldest), int64(r.res.newest)
	if steps := (uint64(newest) - uint64(oldest)) / targetStep; newest > oldest && steps >= maxTargetSamples {
		oldest += int64((steps - maxTargetSamples + 1) * targetStep)
	}
	first := len(r.Metrics.Times)
	for t := oldest; t < newest; t += int64(targetStep) {
		if err := r.targetSample(row, floorMillis(t)); err != nil {
			return err
		}
	}
	if err := r.targetSample(row, floorMillis(newest)); err != nil {
		return err
	}
	return r.endTarget(row, first)
}

// toldTargetInfo adds target_info at the times that an envelope made by Parts
// tells.
func (r *Request) toldTargetInfo(times signal.ByteRange) error {
	if times.Len == 0 {
		return nil
	}
	row, ok, err := r.targetRow()
	if !ok || err != nil {
		return err
	}
	first := len(r.Metrics.Times)
	end := int(times.Off + times.Len)
	for i := int(times.Off); i < end; {
		v, next := wire.Uvarint(r.body[:end], i)
		if next < 0 {
			return r.syntax(i, "target_info: a timestamp is cut short")
		}
		if t := int64(v); t <= r.maxTime {
			if err := r.targetSample(row, t); err != nil {
				return err
			}
		}
		i = next
	}
	return r.endTarget(row, first)
}

// targetSample adds a sample of target_info, once.
func (r *Request) targetSample(row series, t int64) error {
	key := sampleKey{row.hash, t}
	if _, ok := r.seen[key]; ok {
		return nil
	}
	if err := r.budget.Charge(48); err != nil {
		return err
	}
	r.seen[key] = struct{}{}
	if err := r.room(1); err != nil {
		return err
	}
	r.addSample(t, 0, 1)
	return nil
}

// endTarget adds the row of the samples from the first one on, if there are any.
func (r *Request) endTarget(row series, first int) error {
	if len(r.Metrics.Times) == first {
		return nil
	}
	r.points = append(r.points, point{
		off: uint32(len(r.resources) - 1), row: uint32(len(r.Metrics.Hash)), metric: noMetric, route: row.hash.Lo,
	})
	r.endRow(row)
	if r.names.target == nil {
		r.names.target = &metricName{meta: signal.Metadata{Family: targetInfo, Type: "gauge", Help: "Target metadata"}}
	}
	return r.addMetadata(r.names.target)
}

// targetRow returns the series of target_info of the resource at hand, if it has
// one: it needs a job or an instance and something to say beside them.
func (r *Request) targetRow() (row series, ok bool, err error) {
	key := with(r.res.hash, []byte(targetInfo))
	e := r.cache.find(key)
	if e != nil && e.n == 0 {
		return row, false, nil
	}
	if e != nil && r.fits(e.measures) {
		return r.cache.rows[e.first], true, nil
	}
	if err := r.fixResource(); err != nil {
		return row, false, err
	}
	rows, err := r.buildTarget(key, e == nil)
	var label *labelError
	var name *nameError
	switch {
	case errors.As(err, &label):
		r.refuseTarget(label.reason, label.detail)
	case errors.As(err, &name):
		r.refuseTarget(wire.ReasonEmptyLabelName, name.detail)
	case err != nil:
		return row, false, err
	case len(rows) > 0:
		return rows[0], true, nil
	}
	return row, false, nil
}

// buildTarget builds the labels of target_info.
func (r *Request) buildTarget(key labels.Hash, remember bool) ([]series, error) {
	u := &r.build
	others := len(r.res.attrs)
	identifying := []string{serviceNamespace, serviceName, serviceInstance}
	for _, k := range identifying {
		if _, ok := r.res.get(k); ok {
			others--
		}
	}
	if others == 0 {
		return nil, r.rememberNone(key)
	}
	if err := r.budget.Charge(96 * len(r.res.attrs)); err != nil {
		return nil, err
	}
	pairs := make([]pair, 0, len(r.res.attrs))
	for _, a := range r.res.attrs {
		if !r.set.cfg.KeepIdentifyingResourceAttributes && slices.Contains(identifying, string(a.key)) {
			continue
		}
		name := a.key
		if !r.set.utf8 {
			var err error
			if name, err = r.labelName(a.key); err != nil {
				return nil, err
			}
		}
		pairs = append(pairs, pair{name: name, key: a.key, value: a.value})
	}
	u.pairs = pairs
	if err := r.sortPairs(); err != nil {
		return nil, err
	}
	if err := r.merge(u.target, shapeTarget); err != nil {
		return nil, err
	}
	for b := u.seg; ; {
		name, _, rest, err := labels.Next(b)
		if err != nil {
			return nil, r.rememberNone(key) // neither job nor instance
		}
		if string(name) == jobLabel || string(name) == instanceLabel {
			break
		}
		b = rest
	}
	return r.writeRows(key, shapeTarget, remember)
}

// refuseTarget refuses the target_info of the resource at hand. It is no data
// point of the sender's, so it is counted by reason only.
func (r *Request) refuseTarget(reason wire.Reason, detail string) {
	r.Rejects.Note(1, wire.InvalidError{Reason: reason, Detail: targetInfo + ": " + detail})
}
