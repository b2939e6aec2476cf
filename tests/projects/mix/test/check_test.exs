defmodule CheckTest do
  use ExUnit.Case

  test "runs", do: assert(Jason.encode!([]) == "[]")
end
