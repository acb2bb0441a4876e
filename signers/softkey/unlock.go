package softkey

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"strings"

	"filippo.io/age"

	"github.com/signetd/signet/signers"
)

const (
	identityName = "identity.age"
	checkName    = "secret-check.age"
	checkText    = "signet-softkey-1 secret check\n"

	// 128 MB and half a second, what OWASP asks of scrypt for passwords.
	scryptLogN = 17
	// A changed file must not make us use terabytes.
	scryptMaxLogN = 20
)

// unlock turns the secret into the seal of this directory, or sets a new
// directory up with it.
func (d *dir) unlock(ctx context.Context, o Options, hasKeys bool) (*seal, error) {
	secret, err := o.Secret(ctx)
	if err != nil {
		return nil, fmt.Errorf("unlock: %w", err)
	}
	defer clear(secret)
	trimmed := bytes.TrimRight(secret, "\r\n")
	if len(trimmed) == 0 {
		return nil, errors.New("the secret is empty\nhint: give a passphrase or an age identity")
	}
	mine, other, open := identityName, checkName, d.withPassphrase(o)
	if isIdentity(string(trimmed)) {
		mine, other, open = checkName, identityName, d.withIdentity
	}
	if _, err := d.root.Lstat(other); !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, wrongKind(mine))
	}
	file, err := d.read(mine)
	if errors.Is(err, fs.ErrNotExist) && hasKeys {
		return nil, fmt.Errorf("there are keys, but no %q\nhint: the copy or the backup was not whole: restore %q with the keys", mine, mine)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return open(string(trimmed), file)
}

// isIdentity says whether the secret has the line that age-keygen writes.
func isIdentity(secret string) bool {
	for line := range strings.Lines(secret) {
		if strings.HasPrefix(line, "AGE-SECRET-KEY-") {
			return true
		}
	}
	return false
}

func wrongKind(mine string) error {
	if mine == checkName {
		return fmt.Errorf("the keys are under a passphrase, and the secret is an age identity: %w\nhint: give the passphrase", signers.ErrDenied)
	}
	return fmt.Errorf("the keys are under an age identity, and the secret is none: %w\nhint: give the line AGE-SECRET-KEY-…", signers.ErrDenied)
}

// withIdentity uses the secret itself. The file, nil at first, only shows that
// it is the one that the keys were made with.
func (d *dir) withIdentity(secret string, file []byte) (*seal, error) {
	s, err := newSeal(secret)
	if err != nil {
		return nil, fmt.Errorf("the secret is %w", err)
	}
	if file == nil {
		return s, d.setUp(checkName, []byte(checkText), s.recipient)
	}
	if text, err := decrypt(file, s.identity); err != nil || string(text) != checkText {
		return nil, wrongSecret("age identity", err)
	}
	return s, nil
}

// withPassphrase uses an identity made for this directory, which the
// passphrase protects: the slow part is done once at start, not for each key.
func (d *dir) withPassphrase(o Options) func(string, []byte) (*seal, error) {
	return func(secret string, file []byte) (*seal, error) {
		// Half of the memory budget would stay with us until the next
		// collection, minutes later.
		defer debug.FreeOSMemory()
		if file == nil {
			return d.newIdentity(secret, o.scryptLogN)
		}
		with, err := age.NewScryptIdentity(secret)
		if err != nil {
			return nil, err
		}
		with.SetMaxWorkFactor(scryptMaxLogN)
		text, err := decrypt(file, with)
		if err != nil {
			return nil, wrongSecret("passphrase", err)
		}
		defer clear(text)
		return newSeal(string(text))
	}
}

func (d *dir) newIdentity(passphrase string, logN int) (*seal, error) {
	identity, err := age.GenerateHybridIdentity()
	if err != nil {
		return nil, err
	}
	to, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, err
	}
	if logN == 0 {
		logN = scryptLogN
	}
	to.SetWorkFactor(logN)
	if err := d.setUp(identityName, []byte(identity.String()+"\n"), to); err != nil {
		return nil, err
	}
	return newSeal(identity.String())
}

// setUp writes the file that is there before the first key is.
func (d *dir) setUp(name string, text []byte, to age.Recipient) error {
	file, err := encrypt(text, to)
	if err != nil {
		return err
	}
	if err := d.write(".", name, file); err != nil {
		return err
	}
	if err := d.syncFolder("."); err != nil {
		return err
	}
	return d.syncParent()
}

// wrongSecret tells a wrong secret from a damaged file where age can.
func wrongSecret(kind string, err error) error {
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return fmt.Errorf("the %s is not the one that the keys were made with: %w\nhint: give the secret that this directory was set up with", kind, signers.ErrDenied)
	}
	return errors.New("the file that shows whether the secret is right is damaged\nhint: restore it from a backup")
}
