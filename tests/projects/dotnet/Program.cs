System.Console.WriteLine("checked " + Newtonsoft.Json.JsonConvert.SerializeObject(new int[0]));
