package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
)

func newKeyAttestation() *cobra.Command {
	req := &signetv1.AttestationRequest{}
	c := &cobra.Command{
		Use:   "attestation NAME [VERSION] --out FILE",
		Short: "Write what the HSM itself says of a key, signed by its maker",
		Long: `Gets the statement of the HSM about a version (the one that signs, if none is
named), where the back-end has one: Google Cloud KMS at protection level HSM. It
is written to FILE as the HSM made it, and the certificates to check it under to
FILE.CHAIN.pem. The ledger has its SHA-256 since the key was published:
signet audit tail shows it at key.attested.`,
		Args: cobra.RangeArgs(1, 2),
	}
	out := c.Flags().String("out", "", "the file to write; required")
	dir := runtimeFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if *out == "" {
			return fmt.Errorf("--out is required\nhint: a statement is binary; name a file for it")
		}
		req.Name = args[0]
		if len(args) > 1 {
			var err error
			if req.Version, err = versionOf(args[1]); err != nil {
				return err
			}
		}
		reply, err := admin(c, *dir, func(ctx context.Context, api signetv1.AdminClient) (*signetv1.AttestationReply, error) {
			return api.Attestation(ctx, req)
		})
		if err != nil {
			return err
		}
		return writeAttestation(c, *out, req.GetName(), reply)
	}
	return c
}

func writeAttestation(c *cobra.Command, path, name string, r *signetv1.AttestationReply) error {
	if err := os.WriteFile(path, r.GetContent(), 0o600); err != nil {
		return err
	}
	w := c.OutOrStdout()
	fmt.Fprintf(w, "%s version %d: %s, sha256:%x, in %s\n", name, r.GetVersion(), r.GetFormat(), sha256.Sum256(r.GetContent()), path)
	for _, chain := range r.GetChains() {
		file := path + "." + chain.GetName() + ".pem"
		if err := os.WriteFile(file, []byte(strings.Join(chain.GetCertificates(), "")), 0o600); err != nil {
			return err
		}
		fmt.Fprintf(w, "%d certificates of %s in %s\n", len(chain.GetCertificates()), chain.GetName(), file)
	}
	return nil
}
