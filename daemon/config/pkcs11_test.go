package config

import (
	"strings"
	"testing"
)

func TestATokenIsFoundByURI(t *testing.T) {
	got, err := PKCS11{URI: "pkcs11:token=my%20token;serial=12%3b34?module-path=/usr/lib/m.so"}.Token()
	if want := (Token{"/usr/lib/m.so", "my token", "12;34"}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for uri, says := range map[string]string{
		"token=a?module-path=/m":                     "scheme",
		"pkcs11:token=a?module-path=/m&pin-value=12": "PIN",
		"pkcs11:object=k;token=a?module-path=/m":     "object",
		"pkcs11:token=a;token=b?module-path=/m":      "twice",
		"pkcs11:token=%zz?module-path=/m":            "escaped",
		"pkcs11:token=?module-path=/m":               "empty",
		"pkcs11:token=a?pin-source=/f":               "pin-source",
	} {
		_, err := PKCS11{URI: uri}.Token()
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "12") {
			t.Errorf("%s: got %v, want an error about %s", uri, err, says)
		}
	}
}
