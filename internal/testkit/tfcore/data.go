package tfcore

import (
	"context"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
)

// ReadData validates and reads a data source and returns its attributes, or nil
// if that failed. What the provider reported is in o.Found.
func (o *Operation) ReadData(ctx context.Context, typeName string, config map[string]any) (map[string]any, *tfprotov6.DynamicValue) {
	typ := o.schemas.DataSourceSchemas[typeName].ValueType()
	value := Encode(typ, Object(typ, config))
	validated, err := o.ValidateDataResourceConfig(ctx, &tfprotov6.ValidateDataResourceConfigRequest{TypeName: typeName, Config: value})
	if !o.Report(err, validated.Diagnostics) {
		return nil, nil
	}
	read, err := o.ReadDataSource(ctx, &tfprotov6.ReadDataSourceRequest{TypeName: typeName, Config: value})
	if !o.Report(err, read.Diagnostics) {
		return nil, nil
	}
	return Attributes(Decode(typ, read.State)), read.State
}
