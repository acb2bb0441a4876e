//go:build !cgo

package daemon

import (
	"context"
	"errors"
	"log/slog"

	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/signers"
)

func openModule(context.Context, config.PKCS11, *slog.Logger) (signers.Backend, error) {
	return nil, errors.New("this signet was built without cgo, which PKCS#11 modules need\nhint: build it with CGO_ENABLED=1 and a C compiler")
}
