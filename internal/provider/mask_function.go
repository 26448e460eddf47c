package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/function"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

type maskFunction struct{}

func newMaskFunction() function.Function { return maskFunction{} }

func (maskFunction) Metadata(_ context.Context, _ function.MetadataRequest, resp *function.MetadataResponse) {
	resp.Name = "mask"
}

func (maskFunction) Definition(_ context.Context, _ function.DefinitionRequest, resp *function.DefinitionResponse) {
	resp.Definition = function.Definition{
		Summary: "The mask that Sim shows of an API key",
		MarkdownDescription: "Returns what Sim shows of an API key, so that a key in hand can be compared with a stored one. " +
			"Of 13 or more characters, it shows the first 6 and the last 4; of 9 to 12, the first 4 and the last 4; of fewer, eight bullets (`••••••••`). " +
			"Lengths are UTF-16 units. Sim also shows eight bullets of a key that it cannot decrypt, so they say nothing about the key.\n\n" +
			"Terraform treats the mask of a sensitive value as sensitive too; wrap it in `nonsensitive()` to print it.",
		Parameters: []function.Parameter{
			function.StringParameter{
				Name:                "api_key",
				MarkdownDescription: "The API key to mask. Nothing is sent anywhere.",
			},
		},
		Return: function.StringReturn{},
	}
}

func (maskFunction) Run(ctx context.Context, req function.RunRequest, resp *function.RunResponse) {
	var apiKey string
	if resp.Error = req.Arguments.Get(ctx, &apiKey); resp.Error != nil {
		return
	}
	resp.Error = resp.Result.Set(ctx, byok.Mask(apiKey))
}
