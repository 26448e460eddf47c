package tfcore

import (
	"context"
	"errors"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
)

// Listed is one result of a list block.
type Listed struct {
	DisplayName string
	// Identity is nil where the result is but diagnostics.
	Identity map[string]any
	// Resource is nil unless it was asked for.
	Resource map[string]any
	Found    Diagnostics
	Raw      tfprotov6.ListResourceResult
}

// ListBlock is a list block of a query.
type ListBlock struct {
	TypeName string
	Config   map[string]any
	Include  bool
	Limit    int64
}

// List validates a list block and returns what the provider streams, errors
// included, at which Terraform would stop. The error is that of the block.
func (o *Operation) List(ctx context.Context, block ListBlock) ([]Listed, error) {
	var all []Listed
	err := o.EachListed(ctx, block, func(result Listed) bool {
		all = append(all, result)
		return true
	})
	return all, err
}

// EachListed is List for a caller that may stop.
func (o *Operation) EachListed(ctx context.Context, block ListBlock, yield func(Listed) bool) error {
	server, ok := o.ProviderServer.(tfprotov6.ListResourceServer)
	if !ok {
		return errors.New("the provider hides its list resources")
	}
	schema := o.schemas.ListResourceSchemas[block.TypeName]
	if schema == nil {
		return errors.New("no list resource " + block.TypeName)
	}
	config := Encode(schema.ValueType(), Object(schema.ValueType(), block.Config))
	validated, err := server.ValidateListResourceConfig(ctx, &tfprotov6.ValidateListResourceConfigRequest{TypeName: block.TypeName, Config: config})
	if err == nil {
		err = Diagnostics(validated.Diagnostics).Err()
	}
	if err != nil {
		return err
	}
	identities, err := o.GetResourceIdentitySchemas(ctx, &tfprotov6.GetResourceIdentitySchemasRequest{})
	if err != nil {
		return err
	}
	stream, err := server.ListResource(ctx, &tfprotov6.ListResourceRequest{
		TypeName: block.TypeName, Config: config, IncludeResource: block.Include, Limit: block.Limit,
	})
	if err != nil {
		return err
	}
	identity, resource := identities.IdentitySchemas[block.TypeName].ValueType(), o.Type(block.TypeName+".listed")
	for result := range stream.Results {
		listed := Listed{DisplayName: result.DisplayName, Found: result.Diagnostics, Raw: result}
		if result.Identity != nil {
			listed.Identity = Attributes(Decode(identity, result.Identity.IdentityData))
		}
		if result.Resource != nil {
			listed.Resource = Attributes(Decode(resource, result.Resource))
		}
		if !yield(listed) {
			return nil
		}
	}
	return nil
}

// Import imports an instance by its identity, and reads it, as Terraform does.
func (o *Operation) Import(ctx context.Context, typeName string, identity map[string]any) (Instance, error) {
	identities, err := o.GetResourceIdentitySchemas(ctx, &tfprotov6.GetResourceIdentitySchemasRequest{})
	if err != nil {
		return Instance{}, err
	}
	typ := identities.IdentitySchemas[typeName].ValueType()
	resp, err := o.ImportResourceState(ctx, &tfprotov6.ImportResourceStateRequest{
		TypeName: typeName, Identity: &tfprotov6.ResourceIdentityData{IdentityData: Encode(typ, Object(typ, identity))},
	})
	if err == nil {
		err = Diagnostics(resp.Diagnostics).Err()
	}
	if err != nil {
		return Instance{}, err
	}
	imported, address := resp.ImportedResources[0], typeName+".imported"
	at, _ := o.refresh(ctx, address, Instance{Value: Decode(o.Type(address), imported.State), Private: imported.Private})
	return at, o.Err()
}

// Generated is the configuration that Terraform generates for a resource: what
// a user can set, without nulls and what is sensitive.
func (o *Operation) Generated(typeName string, resource map[string]any) map[string]any {
	return generated(o.schemas.ResourceSchemas[typeName].Block.Attributes, resource)
}

func generated(attributes []*tfprotov6.SchemaAttribute, values map[string]any) map[string]any {
	config := map[string]any{}
	for _, attribute := range attributes {
		value := values[attribute.Name]
		if value == nil || attribute.Sensitive || attribute.Computed && !attribute.Optional {
			continue
		}
		if elements, ok := value.(map[string]any); ok && attribute.NestedType != nil {
			of := map[string]any{}
			for name, element := range elements {
				of[name] = generated(attribute.NestedType.Attributes, element.(map[string]any))
			}
			value = of
		}
		config[attribute.Name] = value
	}
	return config
}
