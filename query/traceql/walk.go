package traceql

// WalkExpr calls f for e and the expressions within it, outermost first. Nil is
// none.
func WalkExpr(e Expr, f func(Expr)) {
	switch e := e.(type) {
	case nil:
		return
	case *Unary:
		f(e)
		WalkExpr(e.Expr, f)
	case *Binary:
		f(e)
		WalkExpr(e.Left, f)
		WalkExpr(e.Right, f)
	default:
		f(e)
	}
}

// WalkExprs calls f for every expression in the pipeline, also those of
// aggregates and of pipelines within it.
func (p *Pipeline) WalkExprs(f func(Expr)) {
	for _, s := range p.Stages {
		walkStage(s, f)
	}
}

func walkStage(s Stage, f func(Expr)) {
	switch s := s.(type) {
	case *Filter:
		WalkExpr(s.Expr, f)
	case *SpansetOp:
		walkStage(s.Left, f)
		walkStage(s.Right, f)
	case *Nested:
		s.Pipeline.WalkExprs(f)
	case *ScalarFilter:
		walkScalar(s.Left, f)
		walkScalar(s.Right, f)
	case *GroupBy:
		for _, e := range s.Exprs {
			WalkExpr(e, f)
		}
	case *Select:
		for _, field := range s.Fields {
			f(field)
		}
	}
}

func walkScalar(s Scalar, f func(Expr)) {
	switch s := s.(type) {
	case *Aggregate:
		WalkExpr(s.Expr, f)
	case *ScalarOp:
		walkScalar(s.Left, f)
		walkScalar(s.Right, f)
	case *ScalarPipeline:
		s.Pipeline.WalkExprs(f)
		walkScalar(s.Scalar, f)
	}
}

// WalkExprs calls f for every expression in the query.
func (q *Query) WalkExprs(f func(Expr)) {
	q.Pipeline.WalkExprs(f)
	if q.Metrics == nil {
		return
	}
	WalkExpr(q.Metrics.Expr, f)
	for _, field := range q.Metrics.By {
		f(field)
	}
	if c := q.Metrics.Compare; c != nil {
		WalkExpr(c.Filter.Expr, f)
	}
}

// Attributes returns the attributes and intrinsics that the query names, each
// once, in the order in which they first stand in it.
func (q *Query) Attributes() []Attribute {
	var all []Attribute
	seen := map[Attribute]bool{}
	q.WalkExprs(func(e Expr) {
		if f, ok := e.(*Field); ok && !seen[f.Attribute] {
			seen[f.Attribute] = true
			all = append(all, f.Attribute)
		}
	})
	return all
}

// NeedsTree reports whether the query looks at the trace's tree or other values
// that depend on spans that it does not name: then only whole traces answer it.
func (q *Query) NeedsTree() bool {
	needs := false
	q.WalkExprs(func(e Expr) {
		if f, ok := e.(*Field); ok {
			needs = needs || f.Parent || f.Intrinsic.NeedsTree()
		}
	})
	return needs || needsTree(q.Pipeline)
}

func needsTree(p *Pipeline) bool {
	for _, s := range p.Stages {
		if stageNeedsTree(s) {
			return true
		}
	}
	return false
}

func stageNeedsTree(s Stage) bool {
	switch s := s.(type) {
	case *SpansetOp:
		return s.Op.IsStructural() || stageNeedsTree(s.Left) || stageNeedsTree(s.Right)
	case *Nested:
		return needsTree(s.Pipeline)
	case *ScalarFilter:
		return scalarNeedsTree(s.Left) || scalarNeedsTree(s.Right)
	}
	return false
}

func scalarNeedsTree(s Scalar) bool {
	switch s := s.(type) {
	case *ScalarOp:
		return scalarNeedsTree(s.Left) || scalarNeedsTree(s.Right)
	case *ScalarPipeline:
		return needsTree(s.Pipeline)
	}
	return false
}
