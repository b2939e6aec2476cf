defmodule Check.MixProject do
  use Mix.Project

  def project, do: [app: :check, version: "1.0.0", elixir: "~> 1.14", deps: [{:jason, "~> 1.4"}]]
end
