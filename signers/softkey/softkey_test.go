package softkey

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/conformance/signertest"
	"github.com/signetd/signet/signers"
)

// few has every kind of key, and both ways to use RSA; TestEveryAlgorithmSigns
// has all, with RSA keys that need not be made first.
var few = []signers.Algorithm{
	signers.ECDSAP256, signers.ECDSAP384, signers.ECDSAP521, signers.Ed25519,
	"rsa2048-pkcs1-sha256", "rsa2048-pss-sha256",
}

func TestMemoryKeepsThePromises(t *testing.T) {
	conformance.Run(t, signertest.Checks(signers.ECDSAP256, signers.Ed25519), func(t *testing.T) signertest.Subject {
		return signertest.Subject{Backend: mustOpen(t, Options{})}
	})
}

func TestFilesKeepThePromises(t *testing.T) {
	conformance.Run(t, signertest.Checks(few...), func(t *testing.T) signertest.Subject {
		o := options(t)
		return signertest.Subject{
			Backend: mustOpen(t, o),
			Reopen:  func() (signers.Backend, error) { return Open(t.Context(), o) },
		}
	})
}

// TestEveryAlgorithmSigns after a trip through a key file.
func TestEveryAlgorithmSigns(t *testing.T) {
	sealed := newTestSeal(t)
	for _, alg := range signers.Algorithms() {
		e, err := newEntry("pay", alg, testKey(t, alg))
		if err != nil {
			t.Fatal(err)
		}
		file, err := sealed.close(e)
		if err != nil {
			t.Fatal(err)
		}
		back, err := sealed.open("pay", file)
		if err != nil {
			t.Fatal(err)
		}
		if err := signAndVerify(t.Context(), &key{b: mustOpen(t, Options{}), entry: back}, alg); err != nil {
			t.Error(err)
		}
		if err := alg.Fits(e.pub); err != nil || len(file) > maxFile/4 {
			t.Errorf("%s: %v, and a file of %d bytes", alg, err, len(file))
		}
	}
}

// testKey makes a key, or reads an RSA key, which would take seconds.
func testKey(t *testing.T, alg signers.Algorithm) crypto.Signer {
	t.Helper()
	p, err := alg.Params()
	if err != nil {
		t.Fatal(err)
	}
	if p.Kind != signers.KindRSA {
		k, err := generateKey(alg)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	data, err := os.ReadFile(fmt.Sprintf("../testdata/rsa%d.pem", p.Bits))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return k.(crypto.Signer)
}

func TestRSAKeysHaveTheSizeAskedFor(t *testing.T) {
	b := mustOpen(t, Options{})
	k, err := b.Create(t.Context(), "large", "rsa3072-pss-sha384")
	if err != nil {
		t.Fatal(err)
	}
	if got := k.Public().(*rsa.PublicKey).N.BitLen(); got != 3072 {
		t.Errorf("got a key of %d bits, want 3072", got)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := func(o *Options) string { return o.Dir }
	tests := []struct {
		name, want string
		spoil      func(o *Options)
	}{
		{"a directory without a secret", "no secret", func(o *Options) { o.Secret = nil }},
		{"a secret without a directory", "no directory", func(o *Options) { o.Dir = "" }},
		{"an empty secret", "the secret is empty", func(o *Options) { o.Secret = secret("\n") }},
		{"a secret that cannot be read", "no such secret", func(o *Options) { o.Secret = failingSecret }},
		{"another identity", "not the one", func(o *Options) { o.Secret = newIdentity() }},
		{"two identities", "not exactly one", func(o *Options) { o.Secret = twoIdentities }},
		{"a broken identity", "not exactly one", func(o *Options) { o.Secret = secret("AGE-SECRET-KEY-1NONSENSE") }},
		{"a passphrase for an identity's keys", "under an age identity", func(o *Options) { o.Secret = secret("a passphrase") }},
		{"a directory that others may read", "chmod 0700", func(o *Options) { os.Chmod(dir(o), 0o750) }},
		{"a key folder that others may read", "chmod 0700", func(o *Options) { os.Chmod(filepath.Join(dir(o), keysName), 0o701) }},
		{"a key file that others may read", "chmod 0600", func(o *Options) { os.Chmod(filepath.Join(dir(o), keysName, "old.age"), 0o640) }},
		{"a file that is no key", "is not a key file", func(o *Options) { os.WriteFile(filepath.Join(dir(o), keysName, "old.age~"), nil, 0o600) }},
		{"a link in place of a key", "move it away", func(o *Options) { os.Symlink("old.age", filepath.Join(dir(o), keysName, "new.age")) }},
		{"keys without the file that shows the secret", "not whole", func(o *Options) { os.Remove(filepath.Join(dir(o), checkName)) }},
		{"a damaged file that shows the secret", "damaged", func(o *Options) { os.WriteFile(filepath.Join(dir(o), checkName), []byte("x"), 0o600) }},
		{"a file in place of the directory", "not a directory", func(o *Options) { o.Dir = filepath.Join(dir(o), checkName) }},
		{"a directory in no directory", "no such file", func(o *Options) { o.Dir = filepath.Join(dir(o), "a", "b") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options(t)
			b := mustOpen(t, o)
			create(t, b, "old")
			b.Close()
			tt.spoil(&o)
			b, err := Open(t.Context(), o)
			if err == nil {
				b.Close()
				t.Fatal("Open: got nil, want an error")
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "NONSENSE") {
				t.Errorf("Open: got %q, want something with %q and without the secret", err, tt.want)
			}
		})
	}
}

// TestOpenRefusesFilesOfAnotherUser, whose key it would be.
func TestOpenRefusesFilesOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away: run the tests as root to see this one")
	}
	for _, name := range []string{".", keysName, keysName + "/old.age", checkName} {
		o := options(t)
		b := mustOpen(t, o)
		create(t, b, "old")
		b.Close()
		if err := os.Chown(filepath.Join(o.Dir, name), 65534, -1); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
			t.Errorf("Open with %s given away: got %v, want a refusal", name, err)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	o := options(t)
	mustOpen(t, o).Close()
	os.Chmod(o.Dir, 0o755)
	_, err := Open(t.Context(), o)
	lines := strings.Split(err.Error(), "\n")
	if last := lines[len(lines)-1]; last != "hint: chmod 0700 "+o.Dir {
		t.Errorf("last line of the error: got %q, want the command that mends it", last)
	}
}

func TestTwoProcessesDoNotShare(t *testing.T) {
	o := options(t)
	b := mustOpen(t, o)
	if _, err := Open(t.Context(), o); !errors.Is(err, signers.ErrUnavailable) {
		t.Errorf("second Open: got %v, want ErrUnavailable", err)
	}
	b.Close()
	mustOpen(t, o)
}

func TestPassphrase(t *testing.T) {
	o := options(t)
	o.scryptLogN = 10
	o.Secret = secret("correct horse battery staple\n")
	b := mustOpen(t, o)
	create(t, b, "pay")
	b.Close()

	t.Run("opens without the line end", func(t *testing.T) {
		o.Secret = secret("correct horse battery staple")
		b := mustOpen(t, o)
		defer b.Close()
		if err := signAndVerify(t.Context(), mustKey(t, b, "pay", signers.ECDSAP256), signers.ECDSAP256); err != nil {
			t.Error(err)
		}
	})
	t.Run("refuses another", func(t *testing.T) {
		o.Secret = secret("incorrect horse")
		if _, err := Open(t.Context(), o); !errors.Is(err, signers.ErrDenied) {
			t.Errorf("Open: got %v, want ErrDenied", err)
		}
	})
	t.Run("refuses an identity", func(t *testing.T) {
		o.Secret = newIdentity()
		if _, err := Open(t.Context(), o); !errors.Is(err, signers.ErrDenied) {
			t.Errorf("Open: got %v, want ErrDenied", err)
		}
	})
}

func TestFilesArePrivateAndSealed(t *testing.T) {
	o := options(t)
	b := mustOpen(t, o)
	create(t, b, "pay")
	err := filepath.WalkDir(o.Dir, func(name string, d os.DirEntry, _ error) error {
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %04o", name, info.Mode().Perm())
		}
		data, _ := os.ReadFile(name)
		if strings.Contains(string(data), "pkcs8") || strings.Contains(string(data), "AGE-SECRET") {
			t.Errorf("%s: not encrypted", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestAKeyFileIsBoundToItsName keeps an intruder who can write the directory,
// but does not know the secret, from exchanging keys.
func TestAKeyFileIsBoundToItsName(t *testing.T) {
	o := options(t)
	b := mustOpen(t, o)
	create(t, b, "mine")
	keys := filepath.Join(o.Dir, keysName)
	os.Rename(filepath.Join(keys, "mine.age"), filepath.Join(keys, "yours.age"))
	if _, err := b.Open(t.Context(), "yours", signers.ECDSAP256); !errors.Is(err, errDamaged) {
		t.Errorf("Open of a renamed file: got %v, want errDamaged", err)
	}
}

// TestAKeyFromOutsideIsRefused encrypts a good key to the right recipient, as
// anybody can who knows the public half of the identity.
func TestAKeyFromOutsideIsRefused(t *testing.T) {
	o := options(t)
	b := mustOpen(t, o)
	outside := &seal{recipient: b.dir.seal.recipient, macKey: []byte("guessed")}
	priv, _ := generateKey(signers.ECDSAP256)
	e, err := newEntry("mine", signers.ECDSAP256, priv)
	if err != nil {
		t.Fatal(err)
	}
	file, err := outside.close(e)
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(o.Dir, keysName, "mine.age"), file, 0o600)
	if _, err := b.Open(t.Context(), "mine", signers.ECDSAP256); !errors.Is(err, errDamaged) {
		t.Errorf("Open: got %v, want errDamaged", err)
	}
}

// TestADamagedKeyIsNotReplaced keeps Create from writing over what a backup
// tool or a specialist may still mend.
func TestADamagedKeyIsNotReplaced(t *testing.T) {
	o := options(t)
	b := mustOpen(t, o)
	name := filepath.Join(o.Dir, keysName, "pay.age")
	os.WriteFile(name, []byte("rubble"), 0o600)
	if _, err := b.Create(t.Context(), "pay", signers.Ed25519); !errors.Is(err, signers.ErrExists) {
		t.Errorf("Create: got %v, want ErrExists", err)
	}
	if ids, err := b.List(t.Context()); err != nil || len(ids) != 1 {
		t.Errorf("List: got %v, %v, want the damaged key too", ids, err)
	}
	if err := b.Destroy(t.Context(), "pay"); err != nil {
		t.Errorf("Destroy: got %v, want nil", err)
	}
	create(t, b, "pay")
}

func TestACreateThatIsGivenUpMakesNoKey(t *testing.T) {
	b := mustOpen(t, options(t))
	ctx := &leaving{Context: t.Context()}
	if _, err := b.Create(ctx, "slow", signers.ECDSAP256); !errors.Is(err, context.Canceled) {
		t.Errorf("Create: got %v, want %v", err, context.Canceled)
	}
	if _, err := b.Open(t.Context(), "slow", signers.ECDSAP256); !errors.Is(err, signers.ErrNotFound) {
		t.Errorf("Open: got %v, want ErrNotFound", err)
	}
}

// leaving is the context of a caller who goes away after the first look at it,
// while the key is being made.
type leaving struct {
	context.Context
	looks int
}

func (c *leaving) Err() error {
	c.looks++
	if c.looks > 1 {
		return context.Canceled
	}
	return nil
}

// options are those of a new directory under an age identity.
func options(t *testing.T) Options {
	return Options{Dir: filepath.Join(t.TempDir(), "keys"), Secret: newIdentity()}
}

func secret(text string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) { return []byte(text), nil }
}

func failingSecret(context.Context) ([]byte, error) { return nil, errors.New("no such secret") }

func newIdentity() func(context.Context) ([]byte, error) {
	i, err := age.GenerateX25519Identity()
	if err != nil {
		panic(err)
	}
	return secret("# created for a test\n" + i.String() + "\n")
}

func twoIdentities(ctx context.Context) ([]byte, error) {
	a, _ := newIdentity()(ctx)
	b, _ := newIdentity()(ctx)
	return append(a, b...), nil
}

func mustOpen(t *testing.T, o Options) *Backend {
	t.Helper()
	b, err := Open(t.Context(), o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func create(t *testing.T, b *Backend, id signers.KeyID) signers.Key {
	t.Helper()
	k, err := b.Create(t.Context(), id, signers.ECDSAP256)
	if err != nil {
		t.Fatalf("Create(%q): %v", id, err)
	}
	return k
}

func mustKey(t *testing.T, b *Backend, id signers.KeyID, alg signers.Algorithm) signers.Key {
	t.Helper()
	k, err := b.Open(t.Context(), id, alg)
	if err != nil {
		t.Fatalf("Open(%q): %v", id, err)
	}
	return k
}

func signAndVerify(ctx context.Context, k signers.Key, alg signers.Algorithm) error {
	sig, err := k.Sign(ctx, []byte("a message"))
	if err != nil {
		return err
	}
	return alg.Verify(k.Public(), []byte("a message"), sig)
}
