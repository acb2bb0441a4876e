package awskms

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/cost"
)

// Survey describes the keys that an alias of ours names, and those that our tag
// says were to be named so. It looks at the tags of every other key of the
// account: a request for each.
func (b *Backend) Survey(ctx context.Context) ([]signers.Holding, error) {
	if err := errors.Join(ctx.Err(), b.alive()); err != nil {
		return nil, err
	}
	ctx, cancel := b.atLeisure(ctx)
	defer cancel()
	all, err := b.survey(ctx)
	if err != nil {
		return nil, fmt.Errorf("awskms: survey: %w", meaning(err))
	}
	return all, nil
}

func (b *Backend) survey(ctx context.Context) (all []signers.Holding, err error) {
	named, err := b.named(ctx, nil)
	if err != nil {
		return nil, err
	}
	pages := kms.NewListKeysPaginator(b.kms, &kms.ListKeysInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, k := range page.Keys {
			h, ours, err := b.look(ctx, aws.ToString(k.KeyId), named[aws.ToString(k.KeyId)])
			if err != nil {
				return nil, err
			}
			if ours {
				all = append(all, h)
			}
		}
	}
	return all, nil
}

// named says which keys, by key id, aliases of ours name; all, or one.
func (b *Backend) named(ctx context.Context, key *string) (map[string]signers.KeyID, error) {
	ids := map[string]signers.KeyID{}
	pages := kms.NewListAliasesPaginator(b.kms, &kms.ListAliasesInput{KeyId: key})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, a := range page.Aliases {
			name, ok := strings.CutPrefix(aws.ToString(a.AliasName), "alias/"+b.cfg.AliasPrefix)
			if id := signers.KeyID(name); ok && id.Check() == nil {
				ids[aws.ToString(a.TargetKeyId)] = id
			}
		}
	}
	return ids, nil
}

// look describes a key, if it is ours: its alias is id, or, where it has none,
// its tag says so. A key that we may not look at is not ours.
func (b *Backend) look(ctx context.Context, key string, id signers.KeyID) (h signers.Holding, ours bool, err error) {
	h = signers.Holding{ID: id, Stray: id == ""}
	if h.Stray {
		h.ID, err = b.tagOf(ctx, key)
		if err != nil || h.ID == "" {
			return h, false, err
		}
	}
	found, err := b.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(key)})
	if err := meaning(err); errors.Is(err, signers.ErrNotFound) {
		return h, false, nil // it has just come, or gone
	}
	if err != nil {
		return h, false, err
	}
	m := found.KeyMetadata
	h.Ref, h.State, h.Created = aws.ToString(m.Arn), string(m.KeyState), aws.ToTime(m.CreationDate)
	h.MonthlyUSD = cost.AWS(string(m.KeySpec)).Month
	return h, m.KeyState != types.KeyStatePendingDeletion, nil
}

// tagOf is the id that our tag says a key was to have, "" for none: another's
// key, or one under another prefix.
func (b *Backend) tagOf(ctx context.Context, key string) (signers.KeyID, error) {
	pages := kms.NewListResourceTagsPaginator(b.kms, &kms.ListResourceTagsInput{KeyId: aws.String(key)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		switch err := meaning(err); {
		case errors.Is(err, signers.ErrDenied), errors.Is(err, signers.ErrNotFound):
			return "", nil // not ours to see
		case err != nil:
			return "", err
		}
		for _, t := range page.Tags {
			name, ok := strings.CutPrefix(aws.ToString(t.TagValue), b.cfg.AliasPrefix)
			if id := signers.KeyID(name); aws.ToString(t.TagKey) == tagID && ok && id.Check() == nil {
				return id, nil
			}
		}
	}
	return "", nil
}

// Discard schedules the key whose id and ARN are both given for deletion.
func (b *Backend) Discard(ctx context.Context, id signers.KeyID, ref string) error {
	if err := errors.Join(ctx.Err(), id.Check(), b.alive()); err != nil {
		return err
	}
	b.making.Lock()
	defer b.making.Unlock()
	ctx, cancel := b.atLeisure(ctx)
	defer cancel()
	if err := b.discard(ctx, id, ref); err != nil {
		return fmt.Errorf("awskms: discard %q, %s: %w", id, ref, meaning(err))
	}
	return nil
}

func (b *Backend) discard(ctx context.Context, id signers.KeyID, ref string) error {
	if !strings.HasPrefix(ref, "arn:") {
		return fmt.Errorf("%q is no ARN: %w", ref, signers.ErrNotFound) // an alias can be moved
	}
	named, err := b.named(ctx, aws.String(ref))
	if err != nil {
		return err
	}
	key := ref[strings.LastIndexByte(ref, '/')+1:]
	h, ours, err := b.look(ctx, key, named[key])
	switch {
	case err != nil:
		return err
	case !ours || h.Ref != ref:
		return signers.ErrNotFound
	case h.ID != id:
		return fmt.Errorf("that is the key %q: %w", h.ID, signers.ErrMismatch)
	case h.Stray:
		return b.schedule(ctx, ref)
	}
	b.given.End(id)
	return b.destroy(ctx, id)
}
