package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/encryption"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

func (e environment) keysCommand() *cobra.Command {
	var target *string

	list := &cobra.Command{Use: "list", Short: "List the stored keys with their masks, never a secret", Args: noArguments}
	format := addOutputFlag(list)
	workspace := list.Flags().String("workspace", "", "only the keys of the workspace of this `ID`")
	organization := list.Flags().String("organization", "", "only the keys of the organization of this `ID`")
	list.RunE = func(cmd *cobra.Command, _ []string) error {
		owner := keystore.Owner{Scope: keystore.Workspace, ID: *workspace}
		if *organization != "" {
			if *workspace != "" {
				return misused("--workspace and --organization exclude each other")
			}
			owner = keystore.Owner{Scope: keystore.Organization, ID: *organization}
		}
		return e.withVault(cmd.Context(), *target, func(v *encryption.Vault) error { return e.listKeys(cmd.Context(), v, owner, *format) })
	}

	verify := &cobra.Command{
		Use: "verify", Short: "Decrypt every stored key and report those that cannot be; changes nothing", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.withVault(cmd.Context(), *target, func(v *encryption.Vault) error { return e.verifyKeys(cmd.Context(), v) })
		},
	}

	rekey := &cobra.Command{
		Use: "rekey", Short: "Encrypt every stored key with the new ENCRYPTION_KEY, while servers run", Args: noArguments,
		Long: `Encrypts every stored key that one of DECRYPTION_KEYS opens with ENCRYPTION_KEY, then retires the old key.
It can be interrupted at any time, and goes on where it was when it is run again.

Before it, restart every server with the new key in ENCRYPTION_KEY and the old one in DECRYPTION_KEYS. Where several
servers share a database, first restart all of them with the old key in ENCRYPTION_KEY and the new one in
DECRYPTION_KEYS, so that each can read what the others store. After it, remove DECRYPTION_KEYS.`,
	}
	offline := rekey.Flags().Bool("offline", false, "no server runs, so none needs to have been restarted with the new key")
	acceptLoss := rekey.Flags().Bool("accept-loss", false, "give up the keys that neither ENCRYPTION_KEY nor DECRYPTION_KEYS opens, because the key they need is lost")
	rekey.RunE = func(cmd *cobra.Command, _ []string) error {
		return e.withVault(cmd.Context(), *target, func(v *encryption.Vault) error {
			return e.rekey(cmd.Context(), v, encryption.RekeyOptions{Offline: *offline, AcceptLoss: *acceptLoss})
		})
	}

	cmd := group(&cobra.Command{
		Use:   "keys",
		Short: "List, verify and encrypt anew the stored keys",
		Long: "Lists, verifies and encrypts anew the stored keys, whether the server runs or not. " +
			"ENCRYPTION_KEY and DECRYPTION_KEYS come from the environment or from the secrets file beside the SQLite database.",
		Example: `  byok-server keys list --workspace 11111111-2222-4333-8444-555555555555
  byok-server keys verify
  ENCRYPTION_KEY=$NEW_KEY DECRYPTION_KEYS=$OLD_KEY byok-server keys rekey`,
	}, list, verify, rekey)
	target = addDatabaseFlag(cmd)
	return cmd
}

// keyRow is a key in JSON output.
type keyRow struct {
	Scope      string  `json:"scope"`
	Owner      string  `json:"owner"`
	ProviderID string  `json:"providerId"`
	ID         string  `json:"id"`
	Name       *string `json:"name"`
	MaskedKey  string  `json:"maskedKey"`
	State      string  `json:"state"`
	CreatedAt  string  `json:"createdAt"`
	UpdatedAt  string  `json:"updatedAt"`
}

func (e environment) listKeys(ctx context.Context, v *encryption.Vault, owner keystore.Owner, format string) error {
	out, err := newPrinter(e.stdout, format, "SCOPE", "OWNER", "PROVIDER ID", "ID", "NAME", "MASKED KEY", "STATE", "CREATED", "UPDATED")
	if err != nil {
		return err
	}
	err = v.Each(ctx, owner, func(key encryption.Key) error {
		row := keyRow{
			string(key.Scope), key.Pool.Owner.ID, key.Pool.ProviderID, key.Record.ID, key.Name, key.Masked, string(key.State),
			formatTime(key.CreatedAt), formatTime(key.UpdatedAt),
		}
		return out.row(row, row.Scope, row.Owner, row.ProviderID, row.ID, text(row.Name), row.MaskedKey, row.State, row.CreatedAt, row.UpdatedAt)
	})
	if err != nil {
		return err
	}
	return out.flush()
}

func (e environment) verifyKeys(ctx context.Context, v *encryption.Vault) error {
	total, old, unreadable := 0, 0, 0
	err := v.Each(ctx, keystore.Owner{}, func(key encryption.Key) error {
		total++
		switch {
		case !key.State.IsReadable():
			unreadable++
			return e.say("%s %s: %s key %s is %s", key.Scope, printable(key.Pool.Owner.ID), printable(key.Pool.ProviderID), key.Record.ID, key.State)
		case key.State == encryption.Old:
			old++
		}
		return nil
	})
	if err != nil {
		return err
	}
	switch {
	case unreadable > 0:
		return fmt.Errorf("%d of %s cannot be decrypted with ENCRYPTION_KEY and DECRYPTION_KEYS: they are not served; replace them through the API, or find the key that encrypted them",
			unreadable, plural(total, "stored key"))
	case old > 0:
		return e.say("%s can be decrypted; %d of them need DECRYPTION_KEYS until byok-server keys rekey has run", plural(total, "stored key"), old)
	}
	// Last, because a wrong key fits an empty database.
	if err := v.Check(ctx); err != nil {
		return err
	}
	return e.say("%s can be decrypted with ENCRYPTION_KEY", plural(total, "stored key"))
}

func (e environment) rekey(ctx context.Context, v *encryption.Vault, o encryption.RekeyOptions) error {
	total := 0
	if err := v.Each(ctx, keystore.Owner{}, func(encryption.Key) error { total++; return nil }); err != nil {
		return err
	}
	bar := newBar(e.stderr, int64(total))
	o.Progress = func(done int) { bar.show(int64(done)) }
	result, err := v.Rekey(ctx, o)
	bar.end()
	switch {
	case err != nil && result.Resealed > 0:
		return fmt.Errorf("%w (%s were encrypted anew before; run this again to go on)", err, plural(result.Resealed, "key"))
	case err != nil:
		return err
	}
	if result.Resealed == 0 && result.Unreadable == 0 && !v.HasOldKeys() {
		return e.say("nothing to do: every stored key is encrypted with ENCRYPTION_KEY already, and DECRYPTION_KEYS is not set; " +
			"to change the key, set ENCRYPTION_KEY to the new key and DECRYPTION_KEYS to the old one")
	}
	done := "encrypted %s anew; ENCRYPTION_KEY alone is needed from now on"
	if v.HasOldKeys() {
		done += ", remove DECRYPTION_KEYS"
	}
	if err := e.say(done, plural(result.Resealed, "key")); err != nil {
		return err
	}
	if result.Unreadable > 0 && o.AcceptLoss {
		return e.say("gave up %s, which cannot be decrypted with any of the keys: upload them again; byok-server keys verify lists them", plural(result.Unreadable, "stored key"))
	}
	if result.Unreadable > 0 {
		return fmt.Errorf("%s cannot be decrypted with any of the keys and kept the old encryption; byok-server keys verify lists them", plural(result.Unreadable, "stored key"))
	}
	return nil
}
