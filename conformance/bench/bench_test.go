package bench

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/signetd/signet/daemon/client"
)

// BenchmarkSoftHSM holds Sign and Issue against raw PKCS#11 sign plus verify
// with the same number of sessions.
func BenchmarkSoftHSM(b *testing.B) {
	raw := newRawToken(b, token.Module, sessions)
	for _, sync := range []bool{false, true} {
		r := newRig(b, setup{NoSync: !sync, Backends: map[string]string{"main": hsm(token.Module, "none", sessions)}})
		for _, lane := range []string{"sign", "issue"} {
			for _, callers := range []int{1, 8, 64} {
				b.Run(fmt.Sprintf("lane=%s/callers=%d/fsync=%t", lane, callers, sync), func(b *testing.B) {
					for b.Loop() {
						was, is := versus(b, callers, r.pids(b), raw.signAndVerify, r.lane(b, lane))
						report(b, was, is)
					}
				})
			}
		}
	}
}

// BenchmarkNetworkHSM does the same with a back-end that takes 2 ms a
// signature on each of 16 sessions, as an HSM behind a network does.
func BenchmarkNetworkHSM(b *testing.B) {
	r := newRig(b, setup{NoSync: true, Backends: map[string]string{"main": softKey(", unsafe_faults: {delay: 2ms, sessions: 16}")}})
	raw := rawSlow(b)
	for _, lane := range []string{"sign", "issue"} {
		b.Run("lane="+lane+"/callers=64", func(b *testing.B) {
			for b.Loop() {
				was, is := versus(b, 64, r.pids(b), raw, r.lane(b, lane))
				report(b, was, is)
			}
		})
	}
}

// BenchmarkIdle measures the memory of a daemon that has issued one token and
// of its issuer, and the time from start to the first token.
func BenchmarkIdle(b *testing.B) {
	r := newRig(b, setup{Backends: map[string]string{"main": softKey("")}})
	must(b, r.lane(b, "issue")())
	for b.Loop() {
		var sum int64
		for _, pid := range r.pids(b) {
			sum += pssOf(b, pid)
		}
		b.ReportMetric(float64(sum)/1e6, "pss-MB")
		b.ReportMetric(float64(r.restart(b, func() subject { return r.lane(b, "issue") }).Microseconds())/1000, "first-token-ms")
		b.ReportMetric(0, "ns/op")
	}
}

// restart stops the daemon and measures from its next start until work is done.
func (r *rig) restart(b *testing.B, work func() subject) time.Duration {
	b.Helper()
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	must(b, r.cmd.Wait())
	_ = r.client.Close()
	begun := time.Now()
	r.cmd = r.serve()
	must(b, r.cmd.Start())
	for {
		c, err := client.Dial(filepath.Join(r.dir, "run", "issue.sock"))
		must(b, err)
		r.client = c
		if work()() == nil {
			return time.Since(begun)
		}
		_ = c.Close()
		if time.Since(begun) > 20*time.Second {
			b.Fatal("no token 20 s after the start")
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// lane is one request through the daemon.
func (r *rig) lane(b *testing.B, name string) subject {
	b.Helper()
	if name == "issue" {
		return func() error {
			_, err := r.client.Issue(context.Background(), client.Request{
				Profile: "main", Subject: "bench/caller", Audience: []string{"https://api.example"},
				Scope: []string{"read"}, TTL: 5 * time.Minute, Claims: json.RawMessage(`{"team":"core"}`),
			})
			return err
		}
	}
	return r.sign("main")
}

// sign is one signature with a key. The body is written once, as the raw
// side's message is: what is measured is the signature, not the issuer that
// writes.
func (r *rig) sign(key string) subject {
	body := r.body(key)
	return func() error {
		_, err := r.client.Sign(context.Background(), key, body)
		return err
	}
}

// body is a token body as an issuer would write it.
func (r *rig) body(key string) []byte {
	now := time.Now().Unix()
	header := fmt.Sprintf(`{"alg":"ES256","kid":%q,"typ":"at+jwt"}`, r.kids[key])
	payload := fmt.Sprintf(`{"aud":"https://api.example","client_id":"bench","exp":%d,"iat":%d,"iss":"https://signet.example","jti":"bench-%d","nbf":%d,"scope":"read","sub":"bench/caller","team":"core"}`,
		now+300, now, time.Now().UnixNano(), now)
	enc := base64.RawURLEncoding
	return []byte(enc.EncodeToString([]byte(header)) + "." + enc.EncodeToString([]byte(payload)))
}
