// Package softhsm makes throw-away SoftHSM tokens, for tests, benchmarks and
// the demo.
package softhsm

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// ErrMissing says that SoftHSM is not installed.
var ErrMissing = errors.New("SoftHSM is not installed\nhint: apt-get install softhsm2")

// A Token is a fresh token in a directory of its own.
type Token struct {
	Module string // path of the PKCS#11 module
	Label  string
	PIN    string
	Conf   string // softhsm2.conf
}

// modules are where distributions put the module.
var modules = []string{
	"/usr/lib/softhsm/libsofthsm2.so",
	"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib64/pkcs11/libsofthsm2.so",
	"/usr/lib64/softhsm/libsofthsm2.so",
	"/usr/local/lib/softhsm/libsofthsm2.so",
	"/opt/homebrew/lib/softhsm/libsofthsm2.so",
}

// Module finds the module, or returns ErrMissing. SOFTHSM2_MODULE names one
// in another place.
func Module() (string, error) {
	candidates := modules
	if env := os.Getenv("SOFTHSM2_MODULE"); env != "" {
		candidates = []string{env}
	}
	for _, path := range candidates {
		if _, err := os.Stat(path); err == nil { //nolint:gosec // the tester names it
			return path, nil
		}
	}
	return "", ErrMissing
}

// Make makes a token in dir. Whoever loads the module must have
// SOFTHSM2_CONF=Token.Conf in the process's environment before that: SoftHSM
// reads it in C_Initialize, and only there.
func Make(dir string) (Token, error) {
	module, err := Module()
	if err != nil {
		return Token{}, err
	}
	secrets := make([]byte, 16)
	if _, err := rand.Read(secrets); err != nil {
		return Token{}, fmt.Errorf("softhsm: %w", err)
	}
	t := Token{
		Module: module, Label: "signet-" + hex.EncodeToString(secrets[:4]),
		PIN: hex.EncodeToString(secrets[4:12]), Conf: filepath.Join(dir, "softhsm2.conf"),
	}
	return t, t.write(dir)
}

func (t Token) write(dir string) error {
	objects := filepath.Join(dir, "tokens")
	if err := os.MkdirAll(objects, 0o700); err != nil {
		return fmt.Errorf("softhsm: %w", err)
	}
	// DEBUG would cost three times the signature.
	conf := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", objects)
	if err := os.WriteFile(t.Conf, []byte(conf), 0o600); err != nil {
		return fmt.Errorf("softhsm: %w", err)
	}
	return t.Init(t.Label)
}

// Init makes one more token under the same configuration, with the same PIN.
func (t Token) Init(label string) error {
	cmd := exec.Command("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", t.PIN, "--so-pin", t.PIN) //nolint:gosec // our own arguments
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+t.Conf)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("softhsm: init-token: %w: %s", err, out)
	}
	return nil
}
