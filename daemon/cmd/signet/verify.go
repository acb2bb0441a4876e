package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/jwt"
	"github.com/signetd/signet/plugins/paseto"
	"github.com/signetd/signet/plugins/sshcert"
)

// maxInput bounds what verify and inspect read, in bytes.
const maxInput = 1 << 20

// tokenArg is the token given as an argument, or read from standard input.
func tokenArg(c *cobra.Command, args []string) (string, error) {
	if len(args) == 1 && args[0] != "-" {
		if !strings.Contains(args[0], ".") && !strings.HasPrefix(args[0], "sgt_") {
			return "", fmt.Errorf("%q is not a token\nhint: a file's token is given as: - < FILE", args[0])
		}
		return args[0], nil
	}
	data, err := io.ReadAll(io.LimitReader(c.InOrStdin(), maxInput))
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

func newVerify() *cobra.Command {
	var opts jwt.VerifyOptions
	var pas pasetoFlags
	var cert certFlags
	c := &cobra.Command{
		Use:   "verify [TOKEN|-]",
		Short: "Verify a token as a relying party would",
		Long: `Verifies a JWT against a JWK Set, or a PASETO against PASERK public keys:
signature, algorithm, audience, issuer, type and times; an SSH certificate
against CA keys: signature, principal, type and times. Without --jwks, --keys or
--ssh-ca the keys are fetched from the daemon. Exit status 2 means that the token
is not good.`,
		Example: `  signet issue ci --subject ci/7 --audience https://api.example | signet verify --audience https://api.example
  signet verify --principal deploy - < id-cert.pub`,
		Args: cobra.MaximumNArgs(1),
	}
	f := c.Flags()
	f.StringVar(&opts.Audience, "audience", "", "who you are: the token's aud must contain it (required, but for a certificate)")
	f.StringVar(&opts.Issuer, "issuer", "", "the issuer that you accept (iss); empty accepts any")
	f.StringVar(&opts.Type, "type", "", "the type that you accept (typ; user or host); empty accepts any")
	f.DurationVar(&opts.Leeway, "leeway", 0, "how far clocks may be apart")
	set := f.String("jwks", "", "JWT: file with a JWK Set; the daemon's own if empty")
	pas.flags(c)
	cert.flags(c)
	dir, asJSON := runtimeFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		token, err := tokenArg(c, args)
		if err != nil {
			return err
		}
		opts.Now = time.Now()
		if sshcert.IsCertificate(token) {
			if err := pas.unused(); err != nil {
				return err
			}
			return cert.verify(c, token, *set, *dir, opts, *asJSON)
		}
		if err := cert.unused(); err != nil {
			return err
		}
		if opts.Audience == "" {
			return errors.New("--audience is missing\nhint: say who you are; a token that is for somebody else is not good")
		}
		if paseto.Is(token) {
			return pas.verify(c, token, *set, *dir, opts, *asJSON)
		}
		if err := pas.unused(); err != nil {
			return err
		}
		keys, err := keySet(c, *set, *dir)
		if err != nil {
			return err
		}
		good, err := jwt.Verify(token, keys, opts)
		if err != nil {
			return exitCode{err, 2}
		}
		return printVerified(c, verified{good.Grant, good.Kid, good.Algorithm, good.Payload}, *asJSON)
	}
	return c
}

// keySet is the JWK Set from a file, or as the daemon publishes it.
func keySet(c *cobra.Command, file, dir string) ([]byte, error) {
	if file != "" {
		data, err := os.ReadFile(file) //nolint:gosec // a file that the user names
		if err != nil {
			return nil, fmt.Errorf("JWK Set: %w\nhint: `signet jwks > %s` writes one", err, file)
		}
		return data, nil
	}
	cl, err := dial(dir)
	if err != nil {
		return nil, err
	}
	defer cl.Close() //nolint:errcheck // the process ends here
	_, set, err := cl.PublicKeys(c.Context(), "")
	return set, err
}

func newInspect() *cobra.Command {
	c := &cobra.Command{
		Use:   "inspect [TOKEN|-]",
		Short: "Show what a token says, without verifying it",
		Args:  cobra.MaximumNArgs(1),
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		token, err := tokenArg(c, args)
		if err != nil {
			return err
		}
		if sshcert.IsCertificate(token) {
			return printCertificate(c, token, *asJSON)
		}
		if paseto.Is(token) {
			return inspectPASETO(c, token, *asJSON)
		}
		said, err := jwt.Describe(token)
		if err != nil {
			return exitCode{err, 2}
		}
		return printSaid(c, said, *asJSON)
	}
	return c
}

// A verified token is a good one, of either format.
type verified struct {
	plugins.Grant

	kid, alg string
	payload  []byte
}

// printVerified prints what a good token says.
func printVerified(c *cobra.Command, v verified, asJSON bool) error {
	w := c.OutOrStdout()
	if asJSON {
		return emit(w, map[string]any{"good": true, "kid": v.kid, "alg": v.alg, "typ": v.Type, "claims": json.RawMessage(v.payload)})
	}
	fmt.Fprintf(w, "%s: signed with %s by kid %s\n", green(w, "good"), v.alg, v.kid)
	rows := [][]string{
		{"issuer", v.Issuer}, {"subject", v.Subject}, {"audience", strings.Join(v.Audience, ", ")},
		{"scope", strings.Join(v.Scope, " ")}, {"type", v.Type}, {"token id", v.TokenID},
		{"expires", v.Expires.Format(time.RFC3339)},
	}
	if v.Holder.Kind != "" {
		rows = append(rows, []string{"holder", v.Holder.Kind + " " + v.Holder.Value})
	}
	if len(v.Claims) > 0 {
		rows = append(rows, []string{"claims", string(v.Claims)})
	}
	return table(w, []string{"CLAIM", "VALUE"}, rows)
}

// printSaid prints a token's parts, which nobody has verified.
func printSaid(c *cobra.Command, said jwt.Said, asJSON bool) error {
	w := c.OutOrStdout()
	if asJSON {
		return emit(w, map[string]any{"verified": false, "header": said.Header, "claims": said.Claims, "signature_bytes": said.Signature})
	}
	return printParts(w, said.Signature, said.Header, said.Claims)
}

func printParts(w io.Writer, signature int, parts ...json.RawMessage) error {
	fmt.Fprintln(w, bold(w, "not verified"))
	for _, part := range parts {
		if len(part) == 0 {
			continue
		}
		if err := emit(w, part); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "signature: %d bytes\n", signature)
	return err
}
