"""What the algorithms differentiate with: functional modules, Hessian products, variances along a direction."""
