package pkcs11

import (
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/signers"
)

// meaning is what a module's answer means for callers; what it lacks is
// ErrUnavailable.
var meaning = map[pkcs11.Error]error{
	pkcs11.CKR_PIN_INCORRECT:              signers.ErrDenied,
	pkcs11.CKR_PIN_INVALID:                signers.ErrDenied,
	pkcs11.CKR_PIN_LEN_RANGE:              signers.ErrDenied,
	pkcs11.CKR_PIN_EXPIRED:                signers.ErrDenied,
	pkcs11.CKR_PIN_LOCKED:                 signers.ErrDenied,
	pkcs11.CKR_USER_PIN_NOT_INITIALIZED:   signers.ErrDenied,
	pkcs11.CKR_TOKEN_WRITE_PROTECTED:      signers.ErrDenied,
	pkcs11.CKR_SESSION_READ_ONLY:          signers.ErrDenied,
	pkcs11.CKR_MECHANISM_INVALID:          signers.ErrUnsupported,
	pkcs11.CKR_MECHANISM_PARAM_INVALID:    signers.ErrUnsupported,
	pkcs11.CKR_KEY_SIZE_RANGE:             signers.ErrUnsupported,
	pkcs11.CKR_ATTRIBUTE_VALUE_INVALID:    signers.ErrUnsupported,
	pkcs11.CKR_DOMAIN_PARAMS_INVALID:      signers.ErrUnsupported,
	pkcs11.CKR_CURVE_NOT_SUPPORTED:        signers.ErrUnsupported,
	pkcs11.CKR_KEY_TYPE_INCONSISTENT:      signers.ErrMismatch,
	pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED: signers.ErrMismatch,
}

var hints = map[pkcs11.Error]string{
	pkcs11.CKR_PIN_INCORRECT: "the PIN is wrong; it is not tried again until the daemon starts anew, since tokens lock",
	pkcs11.CKR_PIN_LOCKED:    "the token's user PIN is locked: its security officer can set a new one",
}

// failed names the call that failed and says what that means.
func failed(call string, err error) error {
	var rv pkcs11.Error
	if !errors.As(err, &rv) {
		return fmt.Errorf("%s: %w: %w", call, signers.ErrUnavailable, err)
	}
	means, ok := meaning[rv]
	if !ok {
		means = signers.ErrUnavailable
	}
	err = fmt.Errorf("%s: %w: %w", call, means, rv)
	if hint := hints[rv]; hint != "" {
		err = fmt.Errorf("%w\nhint: %s", err, hint)
	}
	return err
}

// is reports whether err came of the given answer of the module.
func is(err error, answer uint) bool {
	var rv pkcs11.Error
	return errors.As(err, &rv) && uint(rv) == answer
}

// refusesPIN reports whether err is about the PIN itself, in any of a module's
// words: too long, expired or not set is no better at the next try.
func refusesPIN(err error) bool {
	return slices.ContainsFunc([]uint{
		pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_EXPIRED,
		pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_USER_PIN_NOT_INITIALIZED,
	}, func(answer uint) bool { return is(err, answer) })
}
