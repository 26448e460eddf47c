package provider

import (
	"context"
	"fmt"
	"math/big"
	"sync"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/fastpath"
)

// wholeNumberServer refuses numbers with a fraction before the framework sees them:
// it has several errors for each, all of which call it a fault of the provider.
// Every number that this provider's configurations have is whole.
type wholeNumberServer struct {
	fastpath.Framework
	schema func() *tfprotov6.GetProviderSchemaResponse
}

func newWholeNumberServer(framework fastpath.Framework) wholeNumberServer {
	return wholeNumberServer{framework, sync.OnceValue(func() *tfprotov6.GetProviderSchemaResponse {
		resp, err := framework.GetProviderSchema(context.Background(), &tfprotov6.GetProviderSchemaRequest{})
		if err != nil {
			return &tfprotov6.GetProviderSchemaResponse{}
		}
		return resp
	})}
}

// ValidateProviderConfig implements tfprotov6.ProviderServer.
func (s wholeNumberServer) ValidateProviderConfig(ctx context.Context, req *tfprotov6.ValidateProviderConfigRequest) (*tfprotov6.ValidateProviderConfigResponse, error) {
	if diags := fractions(s.schema().Provider, req.Config); len(diags) > 0 {
		return &tfprotov6.ValidateProviderConfigResponse{Diagnostics: diags}, nil
	}
	return s.Framework.ValidateProviderConfig(ctx, req)
}

// ValidateResourceConfig implements tfprotov6.ProviderServer.
func (s wholeNumberServer) ValidateResourceConfig(ctx context.Context, req *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	if diags := fractions(s.schema().ResourceSchemas[req.TypeName], req.Config); len(diags) > 0 {
		return &tfprotov6.ValidateResourceConfigResponse{Diagnostics: diags}, nil
	}
	return s.Framework.ValidateResourceConfig(ctx, req)
}

// fractions returns an error for each number of a configuration that no 64-bit
// integer holds.
func fractions(schema *tfprotov6.Schema, config *tfprotov6.DynamicValue) (diags []*tfprotov6.Diagnostic) {
	if schema == nil || config == nil {
		return nil
	}
	value, err := config.Unmarshal(schema.ValueType())
	if err != nil {
		return nil // the framework says so
	}
	_ = tftypes.Walk(value, func(at *tftypes.AttributePath, value tftypes.Value) (bool, error) {
		if !value.Type().Is(tftypes.Number) || !value.IsKnown() || value.IsNull() {
			return true, nil
		}
		var number *big.Float
		if err := value.As(&number); err != nil {
			return false, err
		}
		if _, accuracy := number.Int64(); accuracy != big.Exact {
			d := diag.NewErrorDiagnostic("Not a whole number", fmt.Sprintf("%s must be a whole number, but is %s.", at.LastStep(), number.Text('g', 10)))
			diags = append(diags, &tfprotov6.Diagnostic{Severity: tfprotov6.DiagnosticSeverityError, Attribute: at, Summary: d.Summary(), Detail: d.Detail()})
		}
		return true, nil
	})
	return diags
}
