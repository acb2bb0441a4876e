package main

import (
	"fmt"
	"io"
	"net/netip"
	"net/url"

	"github.com/signetd/signet/conformance/signertest"
	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/cost"
)

// works is how many keys each level of the suite makes, and how many signatures,
// at the most: whatever the algorithms, and for each of them. A test holds it
// against what the suite does.
var works = map[int]struct{ keys, signatures, keysEach, signaturesEach int }{
	signertest.LevelOpen:        {},
	signertest.LevelVectors:     {keys: 16, signatures: 60, keysEach: 4, signaturesEach: 8},
	signertest.LevelLife:        {keys: 16, signatures: 30, keysEach: 2, signaturesEach: 2},
	signertest.LevelFaults:      {keys: 1, signatures: 60},
	signertest.LevelMisuse:      {keys: 8, signatures: 20, keysEach: 1, signaturesEach: 4},
	signertest.LevelConcurrency: {keys: 12, signatures: 600, keysEach: 1, signaturesEach: 20},
}

// slowKeys are the keys that --slow makes besides.
const slowKeys = 12

// An estimate is what a run costs at the most, in US dollars.
type estimate struct {
	keys, signatures, requests int
	usd                        float64
	kept                       string // for how long a key is paid for
}

// estimateOf is the estimate of a run of the suite, nil where keys cost nothing.
func estimateOf(b config.Backend, level int, algs []signers.Algorithm, slow bool) *estimate {
	var e estimate
	for l, w := range works {
		if l <= level {
			e.keys += w.keys + w.keysEach*len(algs)
			e.signatures += w.signatures + w.signaturesEach*len(algs)
		}
	}
	if slow && level >= signertest.LevelVectors {
		e.keys += slowKeys
	}
	// To make, name, look at, list and destroy them; and each creation looks
	// through the keys that are there, of which others may be.
	e.requests = 20*e.keys + e.keys*e.keys*6/5
	var p cost.Price
	switch b.Type {
	case "awskms": // a key that waits for its deletion costs nothing; a part of a day is taken for a day
		p, e.kept = cost.AWS("ECC_NIST_P256"), "a day"
		p.Month /= 30
		e.usd += float64(e.requests) * cost.AWSRequest
	case "gcpkms": // whether a version that waits for its destruction is paid for, the price list does not say
		p, e.kept = cost.GCP(protectionOf(b.GCPKMS), ""), "a month"
	default:
		return nil
	}
	e.usd += float64(e.keys)*p.Month + float64(e.signatures)*p.Request
	return &e
}

func protectionOf(g *config.GCPKMS) string {
	if g == nil || g.Protection == "" {
		return "HSM"
	}
	return g.Protection
}

func (e *estimate) write(w io.Writer, name string) {
	fmt.Fprintf(w, "%s: at most %d keys, each paid for %s, %d signatures and %d other requests: at most $%.2f, by prices of %s\n",
		name, e.keys, e.kept, e.signatures, e.requests, e.usd, cost.AsOf)
}

// free reports whether a back-end is a fake: what is on loopback costs nothing.
func free(b config.Backend) bool {
	switch {
	case b.AWSKMS != nil:
		u, err := url.Parse(b.AWSKMS.Endpoint)
		if err != nil {
			return false
		}
		ip, err := netip.ParseAddr(u.Hostname())
		return err == nil && ip.IsLoopback()
	case b.GCPKMS != nil:
		return b.GCPKMS.Endpoint != "" // which is on loopback, or refused
	}
	return true
}

// agree prints what a run costs, and is an error unless that is accepted.
func (o conformOptions) agree(w io.Writer, r *conformRun) error {
	e := estimateOf(r.backendConfig, o.level, r.algs, o.slow)
	if e == nil {
		return nil
	}
	e.write(w, r.backendConfig.Name)
	if o.yes || free(r.backendConfig) {
		return nil
	}
	return exitCode{fmt.Errorf("a run against %q makes keys that cost money\nhint: --yes accepts the estimate; --level 1 makes fewer", r.backendConfig.Name), 2}
}
