package main

import (
	"context"

	"github.com/spf13/cobra"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
)

func newKeyAdopt() *cobra.Command {
	req := &signetv1.AdoptKeyRequest{}
	c := &cobra.Command{
		Use:   "adopt NAME --id ID --fingerprint SHA256",
		Short: "Take over a key that is in the back-end already",
		Long: `Makes a key that somebody else made in the back-end the next version of a key
that the configuration names, and publishes it; a first version signs at once.

The key is named by its CKA_ID (in Google Cloud KMS: CRYPTOKEY/VERSION, in the
key ring that is configured) and by its fingerprint, the SHA-256 of its public
key's SubjectPublicKeyInfo, and nothing else is ever taken, or later destroyed,
in its place. A key that may leave the token can't be adopted. What else the
token does not vouch for (that it was made there, that it never could leave) is
named, and must be accepted by name: the ledger keeps who did so, and why.`,
		Example: `  openssl pkey -pubin -in key.pem -outform DER | sha256sum
  signet key adopt ci --id 0a1b --fingerprint 5d4…e1 --accept CKA_LOCAL --reason "imported at the ceremony"`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.StringVar(&req.Ref, "id", "", "the key's CKA_ID, in hex; in Google Cloud KMS CRYPTOKEY/VERSION")
	f.StringVar(&req.Fingerprint, "fingerprint", "", "SHA-256 of the public key's SubjectPublicKeyInfo, in hex")
	f.StringSliceVar(&req.Accept, "accept", nil, "what the token need not vouch for, such as CKA_LOCAL")
	f.StringVar(&req.Reason, "reason", "", "why; the ledger keeps it")
	f.BoolVar(&req.Staged, "staged", false, "publish the version, but do not let it sign yet")
	dir, asJSON := runtimeFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		req.Name = args[0]
		reply, err := admin(c, *dir, func(ctx context.Context, api signetv1.AdminClient) (*signetv1.KeyReply, error) {
			return api.AdoptKey(ctx, req)
		})
		if err != nil {
			return err
		}
		return printChange(c, reply, *asJSON)
	}
	return c
}
