package awskms_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signetd/signet/conformance/fakekms"
	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/awskms"
)

// failures are what can go wrong at the wire, what Sign says while it does, and
// whether a person has to do something about it. nil: what leaves does not
// verify, which the keyring sees for every back-end.
var failures = []struct {
	name  string
	fault fakekms.Fault
	want  error
	hint  bool
}{
	{"latency", fakekms.Fault{Action: fakekms.Wait, Delay: time.Minute}, context.DeadlineExceeded, false},
	{"reset", fakekms.Fault{Action: fakekms.Reset}, signers.ErrUnavailable, false},
	{"a black hole", fakekms.Fault{Action: fakekms.BlackHole}, context.DeadlineExceeded, false},
	{"a wrong signature", fakekms.Fault{Action: fakekms.Corrupt}, nil, false},
	{"another key's, unsaid", fakekms.Fault{Action: fakekms.OtherKey}, nil, false},
	{"another key's", fakekms.Fault{Action: fakekms.OtherID}, signers.ErrUnavailable, false},
	{"a truncated body", fakekms.Fault{Action: fakekms.Truncate}, signers.ErrUnavailable, false},
	{"expired credentials", fakekms.Fault{Kind: "ExpiredTokenException"}, signers.ErrUnavailable, true},
	{"a disabled key", fakekms.Fault{Kind: "DisabledException"}, signers.ErrUnavailable, true},
	{"pending deletion", fakekms.Fault{Kind: "KMSInvalidStateException"}, signers.ErrUnavailable, true},
	{"an internal error", fakekms.Fault{Kind: "KMSInternalException", Status: http.StatusInternalServerError}, signers.ErrUnavailable, false},
	{"a late dependency", fakekms.Fault{Kind: "DependencyTimeoutException", Status: http.StatusServiceUnavailable}, signers.ErrUnavailable, false},
	{"no right", fakekms.Fault{Kind: "AccessDeniedException"}, signers.ErrDenied, true},
	{"throttling", fakekms.Fault{Kind: "ThrottlingException"}, signers.ErrUnavailable, false}, // the last: the SDK goes on slowly for a while
}

// within is how soon after the end of a failure a key signs again.
const within = 5 * time.Second

// TestEachFailureAtTheWireIsTypedAndOverSoon, for many callers at once, after
// the SDK has been throttled and has spent its retries.
func TestEachFailureAtTheWireIsTypedAndOverSoon(t *testing.T) {
	s, _, key := drill(t)
	for _, f := range failures {
		fault := f.fault
		fault.Operation = "Sign"
		s.Set(fault)
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
				defer cancel()
				sig, err := key.Sign(ctx, []byte("pay"))
				switch {
				case f.want == nil && (err != nil || good(key, sig)):
					t.Errorf("%s: got %v, want a signature that does not verify", f.name, err)
				case f.want != nil && !errors.Is(err, f.want) && !errors.Is(err, context.DeadlineExceeded):
					t.Errorf("%s: got %v, want %v", f.name, err, f.want)
				case f.hint && err != nil && !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "\nhint: "):
					t.Errorf("%s: no hint: %v", f.name, err)
				}
			})
		}
		all.Wait()
		s.Clear()
		begun := time.Now()
		for range 16 {
			all.Go(func() {
				for {
					ctx, cancel := context.WithTimeout(t.Context(), within)
					sig, err := key.Sign(ctx, []byte("pay"))
					cancel()
					if took := time.Since(begun); took > within {
						t.Errorf("%s: %v after its end: %v", f.name, took, err)
						return
					}
					if err == nil && good(key, sig) {
						return
					}
				}
			})
		}
		all.Wait()
	}
}

// held counts what a process has open, and its goroutines, when both are calm.
func held(t *testing.T) (descriptors, goroutines int) {
	t.Helper()
	for last := -1; ; time.Sleep(20 * time.Millisecond) {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		if n := runtime.NumGoroutine() + len(fds); n == last {
			return len(fds), runtime.NumGoroutine()
		} else {
			last = n
		}
	}
}

// TestFailuresLeaveNothingOpen after hundreds of each kind, nor does Close.
func TestFailuresLeaveNothingOpen(t *testing.T) {
	s, cfg := account(t)
	emptyFDs, emptyRoutines := held(t)
	b, err := awskms.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	key, err := b.Create(t.Context(), "pay-v1-0011223344556677", signers.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	many := func(f fakekms.Fault, n int) {
		f.Operation = "Sign"
		s.Set(f)
		defer s.Clear()
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				for range n / 20 {
					ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
					_, _ = key.Sign(ctx, []byte("pay"))
					cancel()
				}
			})
		}
		all.Wait()
	}
	rounds := 200
	if testing.Short() {
		rounds = 40
	}
	for _, f := range failures {
		many(f.fault, rounds)
	}
	// What is in the pool is meant to be there: the fake closes it.
	s.CloseClientConnections()
	if fds, routines := held(t); fds > emptyFDs+4 || routines > emptyRoutines+8 {
		t.Errorf("%d failures of each of %d kinds: %d descriptors and %d goroutines before, %d and %d after", rounds, len(failures), emptyFDs, emptyRoutines, fds, routines)
	}
	if _, err := key.Sign(t.Context(), []byte("pay")); err != nil {
		t.Errorf("after all failures: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if fds, routines := held(t); fds > emptyFDs+2 || routines > emptyRoutines+4 {
		t.Errorf("after Close: %d descriptors and %d goroutines, before Open %d and %d", fds, routines, emptyFDs, emptyRoutines)
	}
}

// TestAConnectionThatLeadsNowhereIsLeft inside one caller's deadline.
func TestAConnectionThatLeadsNowhereIsLeft(t *testing.T) {
	s, _, key := drill(t)
	s.Set(fakekms.Fault{Operation: "Sign", Action: fakekms.BlackHole, Times: 1})
	begun := time.Now()
	sig, err := key.Sign(t.Context(), []byte("pay"))
	if err != nil || !good(key, sig) || time.Since(begun) > within {
		t.Errorf("got %v after %v, want a signature", err, time.Since(begun))
	}
}

// TestAQuotaIsWaitedFor: 64 callers want more than the account has a second.
func TestAQuotaIsWaitedFor(t *testing.T) {
	s, b, key := drill(t)
	s.SetQuota(20, 0)
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			if sig, err := key.Sign(t.Context(), []byte("pay")); err != nil || !good(key, sig) {
				t.Errorf("got %v, want a signature", err)
			}
		})
	}
	all.Wait()
	s.SetQuota(0, 1)
	if _, err := b.Create(t.Context(), "pay-v2-0011223344556677", signers.ECDSAP256); !errors.Is(err, signers.ErrBusy) || !strings.Contains(err.Error(), "hint: ") {
		t.Errorf("over the quota of keys: got %v, want ErrBusy and a hint", err)
	}
}

// TestAKeyThatWaitsForItsDeletionIsSaved and then signs as before, in the handle
// that there was and in a new one.
func TestAKeyThatWaitsForItsDeletionIsSaved(t *testing.T) {
	s, b, key := drill(t)
	const id, alias = "pay-v1-0011223344556677", "alias/signet/pay-v1-0011223344556677"
	s.SetState(alias, "PendingDeletion")
	if _, err := b.Open(t.Context(), id, signers.ECDSAP256); !errors.Is(err, signers.ErrNotFound) || !strings.Contains(err.Error(), "cancel-key-deletion --key-id") {
		t.Errorf("Open: got %v, want ErrNotFound and how to save it", err)
	}
	s.SetState(alias, "Disabled") // as CancelKeyDeletion leaves it
	if _, err := b.Open(t.Context(), id, signers.ECDSAP256); !errors.Is(err, signers.ErrUnavailable) || !strings.Contains(err.Error(), "enable-key") {
		t.Errorf("Open: got %v, want ErrUnavailable and how to enable it", err)
	}
	s.SetState(alias, "Enabled")
	again, err := b.Open(t.Context(), id, signers.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []signers.Key{key, again} {
		if sig, err := k.Sign(t.Context(), []byte("pay")); err != nil || !good(key, sig) {
			t.Errorf("got %v, want a signature", err)
		}
	}
}

// TestAMultiRegionKeyIsNamed with its regions, and is not destroyed while it can
// sign in another.
func TestAMultiRegionKeyIsNamed(t *testing.T) {
	s, b, _ := drill(t)
	const id, alias = "pay-v1-0011223344556677", "alias/signet/pay-v1-0011223344556677"
	s.SetReplicas(alias, "us-east-1", "eu-west-1")
	key, err := b.Open(t.Context(), id, signers.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	if said := strings.Join(key.(signers.Attester).Attestation(), " "); !strings.Contains(said, " MultiRegion=PRIMARY,us-east-1,eu-west-1 ") {
		t.Errorf("got %s, want its regions", said)
	}
	for range 2 {
		if err := b.Destroy(t.Context(), id); !errors.Is(err, signers.ErrUnavailable) || !strings.Contains(err.Error(), "us-east-1, eu-west-1") {
			t.Errorf("Destroy: got %v, want where it can still sign", err)
		}
	}
	s.SetReplicas(alias)
	if err := b.Destroy(t.Context(), id); err != nil {
		t.Errorf("Destroy, its replicas gone: %v", err)
	}
}

func TestPostQuantumKeysAreRefusedByName(t *testing.T) {
	s, b, _ := drill(t)
	if _, err := b.Create(t.Context(), "pq", "ml-dsa-65"); !errors.Is(err, signers.ErrUnsupported) || !strings.Contains(err.Error(), "post-quantum") {
		t.Errorf("Create: got %v, want ErrUnsupported by name", err)
	}
	s.SetSpec("alias/signet/pay-v1-0011223344556677", "ML_DSA_65")
	if _, err := b.Open(t.Context(), "pay-v1-0011223344556677", signers.ECDSAP256); !errors.Is(err, signers.ErrMismatch) || !strings.Contains(err.Error(), "ML_DSA_65") {
		t.Errorf("Open: got %v, want ErrMismatch by name", err)
	}
}

func TestAnEndpointMustBeMeant(t *testing.T) {
	_, cfg := account(t)
	for endpoint, want := range map[string]string{
		"http://kms.example": "https://", "https://kms.example": "allow_endpoint", "kms.example": "no URL", "ftp://127.0.0.1": "no URL",
	} {
		bad := cfg
		bad.Endpoint, bad.AllowEndpoint = endpoint, endpoint == "http://kms.example"
		if _, err := awskms.Open(t.Context(), bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", endpoint, err, want)
		}
	}
	t.Setenv("AWS_ENDPOINT_URL_KMS", cfg.Endpoint)
	cfg.Endpoint = ""
	if _, err := awskms.Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "AWS_ENDPOINT_URL") {
		t.Errorf("an endpoint of the environment: got %v, want it refused", err)
	}
}

// TestTheDefaultChainIsUsed: an instance's role, a web identity, and none.
func TestTheDefaultChainIsUsed(t *testing.T) {
	_, cfg := account(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	if _, err := awskms.Open(t.Context(), cfg); !errors.Is(err, signers.ErrUnavailable) || !strings.Contains(err.Error(), "hint: the SDK's default chain") {
		t.Errorf("without credentials: got %v, want a hint", err)
	}
	aws := httptest.NewServer(http.HandlerFunc(identity))
	defer aws.Close()
	t.Run("an instance's role", func(t *testing.T) {
		t.Setenv("AWS_EC2_METADATA_DISABLED", "")
		t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.URL)
		open(t, cfg)
	})
	t.Run("a web identity", func(t *testing.T) {
		token := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(token, []byte("good"), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token)
		t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/signet")
		t.Setenv("AWS_ENDPOINT_URL_STS", aws.URL)
		open(t, cfg)
		if err := os.WriteFile(token, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := awskms.Open(t.Context(), cfg); !errors.Is(err, signers.ErrUnavailable) || !strings.Contains(err.Error(), "hint: ") {
			t.Errorf("a token that is too old: got %v, want ErrUnavailable and a hint", err)
		}
	})
}

// identity is as much of the instance's metadata service and of STS as the
// chain asks for.
func identity(w http.ResponseWriter, r *http.Request) {
	const until = "2099-01-01T00:00:00Z"
	switch r.URL.Path {
	case "/latest/api/token":
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "600")
		_, _ = w.Write([]byte("token"))
	case "/latest/meta-data/iam/security-credentials/":
		_, _ = w.Write([]byte("signet"))
	case "/latest/meta-data/iam/security-credentials/signet":
		_, _ = w.Write([]byte(`{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"` + fakekms.AccessKey + `","SecretAccessKey":"s","Token":"t","Expiration":"` + until + `"}`))
	default:
		w.Header().Set("Content-Type", "text/xml")
		if r.FormValue("WebIdentityToken") != "good" {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredTokenException</Code><Message>Token expired</Message></Error></ErrorResponse>`))
			return
		}
		_, _ = w.Write([]byte(`<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>` + fakekms.AccessKey +
			`</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>` + until +
			`</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`))
	}
}
