package policy

import "slices"

// Without is the Gate with one check left out: a planted fault.
func (g *Gate) Without(rule string) *Gate {
	drop := func(all []check) []check {
		return slices.DeleteFunc(slices.Clone(all), func(c check) bool { return c.rule == rule })
	}
	faulty := *g
	faulty.issue, faulty.sign = drop(g.issue), drop(g.sign)
	faulty.introspect, faulty.redeem = drop(g.introspect), drop(g.redeem)
	return &faulty
}
