# Names are not secret and decide which keys exist. The secrets are ephemeral and
# reach neither the plan nor the state.

variable "openai_names" {
  description = "Names of the OpenAI keys, one key each."
  type        = set(string)
  default     = ["blue", "green", "red"]
}

variable "anthropic_names" {
  description = "Names of the Anthropic keys, one key each."
  type        = set(string)
  default     = ["primary", "spare"]
}

variable "openai_api_keys" {
  description = "The OpenAI API keys by name."
  type        = map(string)
  sensitive   = true
  ephemeral   = true
}

variable "anthropic_api_keys" {
  description = "The Anthropic API keys by name."
  type        = map(string)
  sensitive   = true
  ephemeral   = true
}
