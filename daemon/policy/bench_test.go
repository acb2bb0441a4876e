package policy

import (
	"testing"
)

func BenchmarkApprove(b *testing.B) {
	g, r := gate(b), request(b)
	for b.Loop() {
		if _, err := g.Approve(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApproveWithoutClaims(b *testing.B) {
	g, r := gate(b, func(p *Profile) { p.FixedClaims = nil }), request(b)
	r.Claims = nil
	for b.Loop() {
		if _, err := g.Approve(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApproveWithExeRule(b *testing.B) {
	r := request(b)
	exe, ok := r.Caller.Exe()
	if !ok {
		b.Skip("our own executable can't be read")
	}
	g := gate(b, func(p *Profile) { p.Callers[1].Exe = exe })
	for b.Loop() {
		if _, err := g.Approve(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApproveWithConditions(b *testing.B) {
	g, r := gate(b, withPolicy(permitAll+`forbid(principal, action, resource) when { context.claims.order > 100 };`)), request(b)
	for b.Loop() {
		if _, err := g.Approve(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApproveWritten(b *testing.B) {
	g, me, w := gate(b), self(b), written()
	for b.Loop() {
		if _, err := g.ApproveWritten(b.Context(), me, "pay", w); err != nil {
			b.Fatal(err)
		}
	}
}
