package awskms

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/signetd/signet/signers"
)

// Create makes a key. Only its alias, which comes last and can be given once,
// makes it one that is used: whatever is lost or cut off before leaves a key
// without one, whose tag says what it was to be.
func (b *Backend) Create(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	s, err := b.begin(ctx, id, alg)
	if err != nil {
		return nil, err
	}
	b.making.Lock()
	defer b.making.Unlock()
	ctx, cancel := b.atLeisure(ctx)
	defer cancel()
	key, err := b.create(ctx, id, alg, s)
	if err != nil {
		return nil, fmt.Errorf("awskms: create %q: %w", id, err)
	}
	return key, nil
}

func (b *Backend) create(ctx context.Context, id signers.KeyID, alg signers.Algorithm, s spec) (signers.Key, error) {
	_, err := b.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: b.alias(id)})
	if err == nil {
		return nil, signers.ErrExists
	}
	if err := meaning(err); !errors.Is(err, signers.ErrNotFound) {
		return nil, err
	}
	arn, fresh, err := b.obtain(ctx, id, s)
	if err != nil {
		return nil, err
	}
	if err := b.name(ctx, id, arn); err != nil {
		return nil, err
	}
	var key *Key
	err = b.settled(ctx, func() (err error) {
		key, err = b.open(ctx, id, alg, s)
		return err
	})
	if err != nil {
		return nil, err
	}
	key.life = b.given.New(id)
	if fresh {
		b.sweeping.Go(func() { b.sweep(id, arn) }) //nolint:contextcheck // it outlives the call
	}
	return key, nil
}

// obtain is the key that an earlier creation left without a name, or a fresh one.
func (b *Backend) obtain(ctx context.Context, id signers.KeyID, s spec) (arn string, fresh bool, err error) {
	search, cancel := context.WithTimeout(ctx, b.cfg.Settle)
	defer cancel()
	left, err := b.tagged(search, id)
	switch {
	case err != nil && search.Err() != nil && ctx.Err() == nil:
		// An account of many thousand keys: what there may be is swept later.
		b.cfg.Log.WarnContext(ctx, "what an earlier creation may have left was not looked for to the end", slog.String("id", string(id)))
	case err != nil:
		return "", false, err
	}
	if len(left) > 0 {
		b.cfg.Log.WarnContext(ctx, "a creation that was cut off left this key; it is used", slog.String("id", string(id)), slog.String("arn", left[0]))
		return left[0], false, nil
	}
	arn, err = b.make(ctx, id, s)
	return arn, true, err
}

// sweep schedules what else has the tag of a key that has its name: what was
// made and cut off so shortly before that nobody could find it. It waits until
// the service has settled. What Close cuts off is listed as an orphan.
func (b *Backend) sweep(id signers.KeyID, arn string) {
	select {
	case <-time.After(b.cfg.Settle):
	case <-b.ctx.Done():
		return
	}
	ctx, cancel := b.atLeisure(b.ctx)
	defer cancel()
	found, err := b.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: b.alias(id)})
	if err != nil || aws.ToString(found.KeyMetadata.Arn) != arn {
		return // the name is not this key's any more: nothing here is sure
	}
	all, err := b.tagged(ctx, id)
	for _, other := range all {
		if other != arn && err == nil {
			err = b.schedule(ctx, other)
			b.cfg.Log.WarnContext(ctx, "a creation that was cut off left this key; it is scheduled for deletion", slog.String("id", string(id)), slog.String("arn", other))
		}
	}
	if err != nil && b.ctx.Err() == nil {
		b.cfg.Log.WarnContext(ctx, "what a creation may have left was not looked for", slog.String("id", string(id)), slog.Any("error", err))
	}
}

// make makes a key without a name, once: the service has no token that would
// make a repeated request harmless. If the answer is lost, the key is looked
// for by its tag.
func (b *Backend) make(ctx context.Context, id signers.KeyID, s spec) (string, error) {
	made, err := b.kms.CreateKey(ctx, &kms.CreateKeyInput{
		KeySpec: s.key, KeyUsage: types.KeyUsageTypeSignVerify, Description: aws.String("signet " + string(id)),
		Tags: []types.Tag{{TagKey: aws.String(tagID), TagValue: b.tag(id)}},
	}, func(o *kms.Options) { o.Retryer = aws.NopRetryer{} })
	if err == nil {
		return aws.ToString(made.KeyMetadata.Arn), nil
	}
	if answered(err) || ctx.Err() != nil {
		return "", meaning(err)
	}
	b.cfg.Log.WarnContext(ctx, "the answer to CreateKey was lost; the key is looked for", slog.String("id", string(id)))
	var arn string
	lost := meaning(err)
	err = b.settled(ctx, func() error {
		all, err := b.tagged(ctx, id)
		if err == nil && len(all) == 0 {
			return fmt.Errorf("%w, and there is no key: %w", lost, signers.ErrNotFound)
		}
		if err == nil {
			arn = all[0]
		}
		return err
	})
	if errors.Is(err, signers.ErrNotFound) {
		err = lost // it was never made; the caller may try again
	}
	return arn, err
}

// name gives a key its alias. If another has it, that one was first, and ours
// goes.
func (b *Backend) name(ctx context.Context, id signers.KeyID, arn string) error {
	err := b.settled(ctx, func() error {
		_, err := b.kms.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: b.alias(id), TargetKeyId: aws.String(arn)})
		return meaning(err)
	})
	if !errors.Is(err, signers.ErrExists) {
		return err
	}
	var owner string
	err = b.settled(ctx, func() error {
		found, err := b.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: b.alias(id)})
		if err == nil {
			owner = aws.ToString(found.KeyMetadata.Arn)
		}
		return meaning(err)
	})
	if err != nil || owner == arn {
		return err // ours: only the answer was lost
	}
	return errors.Join(signers.ErrExists, b.settled(ctx, func() error { return b.schedule(ctx, arn) }))
}

// settled does f again for as long as what was just made may not be found.
func (b *Backend) settled(ctx context.Context, f func() error) error {
	end := b.cfg.Now().Add(b.cfg.Settle)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		err := f()
		if !errors.Is(err, signers.ErrNotFound) || !b.cfg.Now().Before(end) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// lookers is how many keys' tags are looked at at a time.
const lookers = 8

// tagged lists the ARNs of keys that can sign, have the tag of id and none of
// our aliases, in order. It looks at every other key of the account, for what was
// cut off.
func (b *Backend) tagged(ctx context.Context, id signers.KeyID) (arns []string, err error) {
	all, err := b.unnamed(ctx)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var done sync.WaitGroup
	for first := range min(lookers, len(all)) {
		done.Go(func() {
			for i := first; i < len(all); i += lookers {
				is, failed := b.isTagged(ctx, all[i].KeyId, id)
				mu.Lock()
				err = errors.Join(err, failed)
				if is {
					arns = append(arns, aws.ToString(all[i].KeyArn))
				}
				mu.Unlock()
				if failed != nil {
					return
				}
			}
		})
	}
	done.Wait()
	slices.Sort(arns)
	return arns, err
}

// unnamed are the keys of the account that have no alias of ours.
func (b *Backend) unnamed(ctx context.Context) (all []types.KeyListEntry, err error) {
	named, err := b.named(ctx, nil)
	if err != nil {
		return nil, meaning(err)
	}
	pages := kms.NewListKeysPaginator(b.kms, &kms.ListKeysInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, meaning(err)
		}
		for _, k := range page.Keys {
			if _, ok := named[aws.ToString(k.KeyId)]; !ok {
				all = append(all, k)
			}
		}
	}
	return all, nil
}

func (b *Backend) isTagged(ctx context.Context, key *string, id signers.KeyID) (bool, error) {
	tags := kms.NewListResourceTagsPaginator(b.kms, &kms.ListResourceTagsInput{KeyId: key})
	for tags.HasMorePages() {
		page, err := tags.NextPage(ctx)
		switch err := meaning(err); {
		case errors.Is(err, signers.ErrDenied), errors.Is(err, signers.ErrNotFound):
			return false, nil // not ours to see
		case err != nil:
			return false, err
		}
		for _, t := range page.Tags {
			if aws.ToString(t.TagKey) == tagID && aws.ToString(t.TagValue) == *b.tag(id) {
				found, err := b.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: key})
				return err == nil && found.KeyMetadata.KeyState == types.KeyStateEnabled, meaning(err)
			}
		}
	}
	return false, nil
}

// Destroy schedules a key for deletion: from then on it can't sign. Its alias
// goes last, so that what is cut off is done again. A key that was never named
// is found by its tag.
func (b *Backend) Destroy(ctx context.Context, id signers.KeyID) error {
	if err := errors.Join(ctx.Err(), id.Check(), b.alive()); err != nil {
		return err
	}
	b.making.Lock()
	defer b.making.Unlock()
	b.given.End(id)
	ctx, cancel := b.atLeisure(ctx)
	defer cancel()
	if err := b.destroy(ctx, id); err != nil {
		return fmt.Errorf("awskms: destroy %q: %w", id, err)
	}
	return nil
}

func (b *Backend) destroy(ctx context.Context, id signers.KeyID) error {
	found, err := b.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: b.alias(id)})
	switch err := meaning(err); {
	case errors.Is(err, signers.ErrNotFound):
		all, err := b.tagged(ctx, id)
		for _, arn := range all {
			err = errors.Join(err, b.schedule(ctx, arn))
		}
		return err
	case err != nil:
		return err
	}
	if state := found.KeyMetadata.KeyState; state != types.KeyStatePendingDeletion && state != types.KeyStatePendingReplicaDeletion {
		if err := b.schedule(ctx, aws.ToString(found.KeyMetadata.Arn)); err != nil {
			return err
		}
	}
	if others := elsewhere(found.KeyMetadata); len(others) > 0 {
		return fmt.Errorf("it is a multi-region key (%s) that can still sign in %s: %w\nhint: delete it there; here it can't sign any more", aws.ToString(found.KeyMetadata.KeyId), strings.Join(others, ", "), signers.ErrUnavailable)
	}
	_, err = b.kms.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: b.alias(id)})
	if err := meaning(err); !errors.Is(err, signers.ErrNotFound) {
		return err
	}
	return nil
}

func (b *Backend) schedule(ctx context.Context, arn string) error {
	_, err := b.kms.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{
		KeyId: aws.String(arn), PendingWindowInDays: aws.Int32(int32(b.cfg.DeleteAfter)), //nolint:gosec // 7 to 30
	})
	var state *types.KMSInvalidStateException
	if errors.As(err, &state) {
		return nil // it is scheduled already: the answer was lost
	}
	return meaning(err)
}
