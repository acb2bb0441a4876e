package gcpkms_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/signetd/signet/conformance/fakegcpkms"
	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/gcpkms"
)

// failures are what can go wrong at the wire, what Sign says while it does, and
// whether a person has to do something about it. nil: what leaves does not
// verify, which the keyring sees for every back-end.
var failures = []struct {
	name  string
	fault fakegcpkms.Fault
	want  error
	hint  bool
}{
	{"latency", fakegcpkms.Fault{Action: fakegcpkms.Wait, Delay: time.Minute}, context.DeadlineExceeded, false},
	{"reset", fakegcpkms.Fault{Action: fakegcpkms.Reset}, signers.ErrUnavailable, false},
	{"a black hole", fakegcpkms.Fault{Action: fakegcpkms.BlackHole}, context.DeadlineExceeded, false},
	{"a silent connection", fakegcpkms.Fault{Action: fakegcpkms.Silence}, context.DeadlineExceeded, false},
	{"a wrong signature", fakegcpkms.Fault{Action: fakegcpkms.Forge}, nil, false},
	{"another key's", fakegcpkms.Fault{Action: fakegcpkms.OtherName}, signers.ErrUnavailable, false},
	{"a body that is cut off", fakegcpkms.Fault{Action: fakegcpkms.Cut}, signers.ErrUnavailable, false},
	{"a wrong CRC", fakegcpkms.Fault{Action: fakegcpkms.Corrupt}, signers.ErrUnavailable, false},
	{"our CRC not looked at", fakegcpkms.Fault{Action: fakegcpkms.Unverified}, signers.ErrUnavailable, false},
	{"expired credentials", fakegcpkms.Fault{Code: codes.Unauthenticated}, signers.ErrUnavailable, true},
	{"a disabled or destroyed version", fakegcpkms.Fault{Code: codes.FailedPrecondition}, signers.ErrUnavailable, true},
	{"a quota", fakegcpkms.Fault{Code: codes.ResourceExhausted}, signers.ErrBusy, true},
	{"an internal error", fakegcpkms.Fault{Code: codes.Internal}, signers.ErrUnavailable, false},
	{"no right", fakegcpkms.Fault{Code: codes.PermissionDenied}, signers.ErrDenied, true},
}

// within is how soon after the end of a failure a key signs again.
const within = 5 * time.Second

// TestEachFailureAtTheWireIsTypedAndOverSoon, for many callers at once.
func TestEachFailureAtTheWireIsTypedAndOverSoon(t *testing.T) {
	s, _, key := drill(t)
	for _, f := range failures {
		fault := f.fault
		fault.Method = "AsymmetricSign"
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
				case f.hint && !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "\nhint: "):
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
		n := runtime.NumGoroutine() + len(fds)
		if n == last {
			return len(fds), runtime.NumGoroutine()
		}
		last = n
	}
}

// TestFailuresLeaveNothingOpen after hundreds of each kind, nor does Close.
func TestFailuresLeaveNothingOpen(t *testing.T) {
	s, cfg := project(t)
	emptyFDs, emptyRoutines := held(t)
	b, err := gcpkms.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	key, err := b.Create(t.Context(), id, signers.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	fds, routines := held(t)
	rounds := 200
	if testing.Short() {
		rounds = 40
	}
	for _, f := range failures {
		f.fault.Method = "AsymmetricSign"
		s.Set(f.fault)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				for range rounds / 20 {
					ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
					_, _ = key.Sign(ctx, []byte("pay"))
					cancel()
				}
			})
		}
		all.Wait()
		s.Clear()
	}
	if _, err := key.Sign(t.Context(), []byte("pay")); err != nil {
		t.Errorf("after all failures: %v", err)
	}
	if fds2, routines2 := held(t); fds2 > fds+6 || routines2 > routines+20 {
		t.Errorf("%d failures of each of %d kinds: %d descriptors and %d goroutines before, %d and %d after", rounds, len(failures), fds, routines, fds2, routines2)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if fds2, routines2 := held(t); fds2 > emptyFDs+4 || routines2 > emptyRoutines+6 {
		t.Errorf("after Close: %d descriptors and %d goroutines, before Open %d and %d", fds2, routines2, emptyFDs, emptyRoutines)
	}
}

// TestAConnectionThatLeadsNowhereIsLeft inside one caller's deadline: the one
// connection that all share is silent, and others would work.
func TestAConnectionThatLeadsNowhereIsLeft(t *testing.T) {
	s, _, key := drill(t)
	s.Set(fakegcpkms.Fault{Method: "AsymmetricSign", Action: fakegcpkms.Silence, Times: 1})
	begun := time.Now()
	sig, err := key.Sign(t.Context(), []byte("pay"))
	if err != nil || !good(key, sig) || time.Since(begun) > within {
		t.Errorf("got %v after %v, want a signature", err, time.Since(begun))
	}
}

// person is somebody with every right, and another client.
func person(t *testing.T, s *fakegcpkms.Server) *kms.KeyManagementClient {
	t.Helper()
	c, err := kms.NewKeyManagementClient(t.Context(), option.WithEndpoint(s.Address), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestAVersionThatIsToBeDestroyedIsSaved as the hints say, and signs as before.
func TestAVersionThatIsToBeDestroyedIsSaved(t *testing.T) {
	s, b, key := drill(t)
	c, name := person(t, s), fakegcpkms.Ring+"/cryptoKeys/"+string(id)+"/cryptoKeyVersions/1"
	if _, err := c.DestroyCryptoKeyVersion(t.Context(), &kmspb.DestroyCryptoKeyVersionRequest{Name: name}); err != nil {
		t.Fatal(err)
	}
	if _, err := key.Sign(t.Context(), []byte("pay")); !errors.Is(err, signers.ErrUnavailable) || !strings.Contains(err.Error(), "restore") {
		t.Errorf("Sign: got %v, want ErrUnavailable and a hint", err)
	}
	if _, err := b.Open(t.Context(), id, signers.ECDSAP256); !errors.Is(err, signers.ErrNotFound) || !strings.Contains(err.Error(), "restore 1 --key "+string(id)+" --keyring signet --location europe-west3 --project fake") {
		t.Errorf("Open: got %v, want ErrNotFound and how to save it", err)
	}
	if _, err := c.RestoreCryptoKeyVersion(t.Context(), &kmspb.RestoreCryptoKeyVersionRequest{Name: name}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Open(t.Context(), id, signers.ECDSAP256); !errors.Is(err, signers.ErrUnavailable) || !strings.Contains(err.Error(), "versions enable 1") {
		t.Errorf("Open: got %v, want ErrUnavailable and how to enable it", err)
	}
	if _, err := c.UpdateCryptoKeyVersion(t.Context(), &kmspb.UpdateCryptoKeyVersionRequest{
		CryptoKeyVersion: &kmspb.CryptoKeyVersion{Name: name, State: kmspb.CryptoKeyVersion_ENABLED}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"state"}},
	}); err != nil {
		t.Fatal(err)
	}
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

// TestADestroyedHandleIsDeadAtOnce though the service goes on signing a while.
func TestADestroyedHandleIsDeadAtOnce(t *testing.T) {
	s, b, key := drill(t)
	s.SetLag(time.Hour)
	if err := b.Destroy(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := key.Sign(t.Context(), []byte("pay")); !errors.Is(err, signers.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if n := s.Count("AsymmetricSign"); n != 0 {
		t.Errorf("the service was asked %d times", n)
	}
}

// TestAStatementIsRecordedByItsHash and can be had whole.
func TestAStatementIsRecordedByItsHash(t *testing.T) {
	_, b, key := drill(t)
	proof, err := b.Proof(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(proof.Content)
	want := "Attestation=CAVIUM_V2_COMPRESSED,sha256:" + hex.EncodeToString(sum[:])
	if said := key.(signers.Attester).Attestation(); !slices.Contains(said, want) {
		t.Errorf("got %v, want %s", said, want)
	}
	if proof.Format != "CAVIUM_V2_COMPRESSED" || len(proof.Content) == 0 || len(proof.Chains["cavium"]) != 1 {
		t.Errorf("got %+v, want format, content and chain", proof)
	}
	_, cfg := project(t)
	cfg.Protection = "SOFTWARE"
	soft := open(t, cfg)
	if _, err := soft.Create(t.Context(), id, signers.ECDSAP256); err != nil {
		t.Fatal(err)
	}
	if _, err := soft.Proof(t.Context(), id); !errors.Is(err, signers.ErrNoProof) {
		t.Errorf("of a key in software: got %v, want ErrNoProof", err)
	}
	if _, err := soft.Proof(t.Context(), "absent"); !errors.Is(err, signers.ErrNotFound) {
		t.Errorf("of no key: got %v, want ErrNotFound", err)
	}
}

// TestAnExternalKeyIsAdopted, and made only through a connection.
func TestAnExternalKeyIsAdopted(t *testing.T) {
	s, cfg := project(t)
	cfg.Protection = "EXTERNAL"
	b := open(t, cfg)
	if _, err := b.Create(t.Context(), id, signers.ECDSAP256); !errors.Is(err, signers.ErrUnsupported) || !strings.Contains(err.Error(), "signet key adopt") {
		t.Errorf("Create: got %v, want ErrUnsupported and a hint", err)
	}
	external(t, s)
	key, err := b.Open(t.Context(), "ad-theirs-1", signers.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	got, err := b.Adopt(t.Context(), "theirs/1", hex.EncodeToString(sum[:]), signers.ECDSAP256)
	if err != nil || got.ID != "ad-theirs-1" || !slices.Equal(got.Unattested, []string{"ProtectionLevel"}) {
		t.Fatalf("Adopt: got %+v, %v", got, err)
	}
	if sig, err := got.Key.Sign(t.Context(), []byte("pay")); err != nil || !good(key, sig) {
		t.Errorf("got %v, want a signature", err)
	}
	for ref, sum := range map[string]string{"theirs/1": strings.Repeat("0", 64), "theirs": hex.EncodeToString(sum[:]), "Theirs/1": hex.EncodeToString(sum[:]), "v1-x/1": hex.EncodeToString(sum[:])} {
		if _, err := b.Adopt(t.Context(), ref, sum, signers.ECDSAP256); !errors.Is(err, signers.ErrMismatch) {
			t.Errorf("Adopt %s: got %v, want ErrMismatch", ref, err)
		}
	}
	if ids, err := b.List(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("List: got %v, %v, want none: nobody's but ours", ids, err)
	}
	hsm := cfg
	hsm.Protection = "HSM"
	if _, err := open(t, hsm).Open(t.Context(), "ad-theirs-1", signers.ECDSAP256); !errors.Is(err, signers.ErrMismatch) {
		t.Errorf("where an HSM is wanted: got %v, want ErrMismatch", err)
	}
	cfg.Protection = "EXTERNAL_VPC"
	if _, err := open(t, cfg).Create(t.Context(), id, signers.ECDSAP256); !errors.Is(err, signers.ErrUnsupported) || !strings.Contains(err.Error(), "connection") {
		t.Errorf("without a connection: got %v, want ErrUnsupported and a hint", err)
	}
	cfg.Connection = "projects/fake/locations/europe-west3/ekmConnections/vault"
	if _, err := open(t, cfg).Create(t.Context(), id, signers.ECDSAP256); err != nil {
		t.Errorf("through a connection: %v", err)
	}
}

// external makes a key in an external key manager, as a person does.
func external(t *testing.T, s *fakegcpkms.Server) {
	t.Helper()
	c := person(t, s)
	k, err := c.CreateCryptoKey(t.Context(), &kmspb.CreateCryptoKeyRequest{
		Parent: fakegcpkms.Ring, CryptoKeyId: "theirs", SkipInitialVersionCreation: true,
		CryptoKey: &kmspb.CryptoKey{Purpose: kmspb.CryptoKey_ASYMMETRIC_SIGN, VersionTemplate: &kmspb.CryptoKeyVersionTemplate{
			Algorithm: kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256, ProtectionLevel: kmspb.ProtectionLevel_EXTERNAL,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateCryptoKeyVersion(t.Context(), &kmspb.CreateCryptoKeyVersionRequest{Parent: k.GetName(), CryptoKeyVersion: &kmspb.CryptoKeyVersion{
		ExternalProtectionLevelOptions: &kmspb.ExternalProtectionLevelOptions{ExternalKeyUri: "https://ekm.example/key"},
	}}); err != nil {
		t.Fatal(err)
	}
}

func TestPostQuantumKeysAreRefusedByName(t *testing.T) {
	s, b, _ := drill(t)
	if _, err := b.Create(t.Context(), "pq", "ml-dsa-65"); !errors.Is(err, signers.ErrUnsupported) || !strings.Contains(err.Error(), "post-quantum") {
		t.Errorf("Create: got %v, want ErrUnsupported by name", err)
	}
	s.Change(func(_ *kmspb.CryptoKey, v *kmspb.CryptoKeyVersion) {
		v.Algorithm = kmspb.CryptoKeyVersion_PQ_SIGN_ML_DSA_65
	})
	if _, err := b.Open(t.Context(), id, signers.ECDSAP256); !errors.Is(err, signers.ErrMismatch) || !strings.Contains(err.Error(), "PQ_SIGN_ML_DSA_65") {
		t.Errorf("Open: got %v, want ErrMismatch by name", err)
	}
}

// TestAKeyIsOursByItsLabel, never by its name alone.
func TestAKeyIsOursByItsLabel(t *testing.T) {
	s, b, _ := drill(t)
	if ids, err := b.List(t.Context()); err != nil || !slices.Equal(ids, []signers.KeyID{id}) {
		t.Errorf("got %v, %v, want ours", ids, err)
	}
	s.Change(func(k *kmspb.CryptoKey, _ *kmspb.CryptoKeyVersion) { k.Labels = map[string]string{"signet": "another"} })
	if ids, err := b.List(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("made for another id: got %v, %v, want none", ids, err)
	}
}

// TestAQuotaIsSaid when the caller's deadline is over before it is free again.
func TestAQuotaIsSaid(t *testing.T) {
	s, _, key := drill(t)
	s.SetQuota(1)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var err error
	for err == nil {
		_, err = key.Sign(ctx, []byte("pay"))
	}
	if !errors.Is(err, signers.ErrBusy) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want ErrBusy or the deadline", err)
	}
	s.SetQuota(0)
	if sig, err := key.Sign(t.Context(), []byte("pay")); err != nil || !good(key, sig) {
		t.Errorf("when it is free again: %v", err)
	}
}

// TestAPublicKeyThatWasChangedIsRefused by its checksum.
func TestAPublicKeyThatWasChangedIsRefused(t *testing.T) {
	s, b, _ := drill(t)
	s.Set(fakegcpkms.Fault{Method: "GetPublicKey", Action: fakegcpkms.BadPEM})
	if _, err := b.Open(t.Context(), id, signers.ECDSAP256); !errors.Is(err, signers.ErrUnavailable) || !strings.Contains(err.Error(), "not whole") {
		t.Errorf("got %v, want it refused", err)
	}
}
